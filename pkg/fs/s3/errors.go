package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	iofs "io/fs"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

const (
	// slowest is how many bytes a second a request may have at least.
	slowest = 256 << 10
	// firstPause is what follows the first attempt, on average; each pause is twice as long as the one before, up to maxPause.
	firstPause, maxPause = 100 * time.Millisecond, 10 * time.Second
)

// do tries a request until it succeeds, trying again cannot help, or all attempts are used. size is how many bytes it moves. The attempts must be safe to be done twice.
func (f *FS) do(op, name string, size int, try func(ctx context.Context) error) error {
	began := time.Now()
	for attempt := 1; ; attempt++ {
		ctx, cancel := context.WithTimeout(context.Background(), f.timeout+time.Duration(size)*time.Second/slowest)
		err := try(ctx)
		cancel()
		switch {
		case err == nil:
			return nil
		case !retryable(err):
			return f.explain(op, name, err)
		case attempt == f.attempts:
			return fmt.Errorf("%s %s: gave up after %d attempts in %s: %w", op, uri(name), attempt, time.Since(began).Round(time.Millisecond), err)
		}
		pause := min(firstPause<<(attempt-1), maxPause)
		<-time.After(pause/2 + rand.N(pause))
	}
}

// retryable reports whether an attempt may succeed later: everything but what the store refuses, and a certificate that does not fit.
func retryable(err error) bool {
	var unknown x509.UnknownAuthorityError
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &unknown) || errors.As(err, &certificate) {
		return false
	}
	if base.ClassOf(err) == base.ClassPermanent || errors.Is(err, iofs.ErrNotExist) {
		return false
	}
	var r minio.ErrorResponse
	if !errors.As(err, &r) {
		return true // a connection that broke, a body that was cut off, a timeout
	}
	switch r.Code {
	case "RequestTimeout", "SlowDown", "SlowDownRead", "SlowDownWrite", "ServiceUnavailable", "InternalError", "Throttling", "ThrottlingException", "RequestLimitExceeded", "BadDigest",
		"XAmzContentSHA256Mismatch", "IncompleteBody", "OperationAborted", "ConditionalRequestConflict",
		"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired": // the client asks for new credentials
		return true
	}
	return r.StatusCode == http.StatusRequestTimeout || r.StatusCode == http.StatusTooManyRequests || r.StatusCode >= 500 && r.StatusCode != http.StatusNotImplemented
}

// isGone reports whether a store says that an upload is not there (any more).
func isGone(err error) bool {
	return minio.ToErrorResponse(err).Code == minio.NoSuchUpload
}

func isUnknownCall(err error) bool {
	var r minio.ErrorResponse
	return errors.As(err, &r) && (r.StatusCode == http.StatusNotImplemented || r.StatusCode == http.StatusMethodNotAllowed)
}

// explain says what is wrong and what to do.
func (f *FS) explain(op, name string, err error) error {
	bucket, _ := split(name)
	var r minio.ErrorResponse
	errors.As(err, &r)
	store := f.core.EndpointURL().Host
	what := func(format string, args ...any) error {
		return base.Permanent(fmt.Errorf("%s %s: %s (%w)", op, uri(name), fmt.Sprintf(format, args...), err))
	}
	switch r.Code {
	case minio.NoSuchKey:
		if there, berr := f.bucketExists(bucket); berr == nil && !there {
			return what("the bucket %q does not exist at %s: create it, or name another", bucket, store)
		}
		return &iofs.PathError{Op: op, Path: uri(name), Err: iofs.ErrNotExist}
	case minio.NoSuchBucket, "InvalidBucketName":
		return what("the bucket %q does not exist at %s: create it, or name another", bucket, store)
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "XAdminUserNotFound": // the last is versitygw's
		return what("%s does not accept the credentials: check %s and %s", store, config.S3AccessKey.Name, config.S3SecretKey.Name)
	case "AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "InvalidRegion", "IllegalLocationConstraintException":
		region := r.Region
		if region == "" {
			region = "its region"
		}
		return what("the bucket %q is in another region: set %s to %s, and %s to that region's if it is set", bucket, config.S3Region.Name, region, config.S3Endpoint.Name)
	case minio.AccessDenied, "AllAccessDisabled", "AccountProblem":
		return what("access denied: the credentials need s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload, s3:ListBucket and s3:ListBucketMultipartUploads on bucket %q (without s3:ListBucket an object that is not there looks like this too)", bucket)
	case "RequestTimeTooSkewed":
		return what("the clock of this machine differs from that of %s: set it", store)
	}
	return fmt.Errorf("%s %s: %w", op, uri(name), err)
}

// bucketExists tells an object that is missing from a bucket that is: an answer without a body does not.
func (f *FS) bucketExists(bucket string) (bool, error) {
	f.mu.Lock()
	known := f.buckets[bucket]
	f.mu.Unlock()
	if known {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), f.timeout)
	defer cancel()
	there, err := f.core.BucketExists(ctx, bucket)
	if err == nil && there {
		f.mu.Lock()
		f.buckets[bucket] = true
		f.mu.Unlock()
	}
	return there, err
}
