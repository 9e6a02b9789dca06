// Package s3test is an object store in memory that speaks S3, for tests: it fails, forgets and cuts off where it is told to.
//
// Start with Server. Its law: it refuses what a real store refuses (a wrong checksum, a small part, an upload that is not there), and what a hook does not touch is consistent.
package s3test

import (
	"bytes"
	"crypto/md5" //nolint:gosec // ETags are MD5 sums
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Op names a request.
type Op string

// The requests.
const (
	Put      Op = "put"
	Get      Op = "get"
	Head     Op = "head"
	Delete   Op = "delete"
	List     Op = "list"
	Begin    Op = "begin upload"
	Part     Op = "upload part"
	Complete Op = "complete upload"
	Abort    Op = "abort upload"
	Uploads  Op = "list uploads"
)

// Fault is what becomes of a request. The zero Fault is none.
type Fault struct {
	// Status and Code are the answer instead of the true one: 503 "SlowDown".
	Status int
	Code   string
	// Region is in the answer, for requests to a wrong one.
	Region string
	// Cut breaks the connection instead of an answer, or, of a Get, after half of the bytes.
	Cut bool
	// Done says that the request is carried out nevertheless.
	Done bool
	// Stale answers a List as it was when Server.Freeze was called.
	Stale bool
	// Hang gives no answer until the client goes away.
	Hang bool
}

// Server is the store. Its fields must not be changed while it is used, but Hook may lock. It is an http.Handler and an http.RoundTripper, safe for concurrent use.
type Server struct {
	// Hook is asked before each request, when it is set; key is what it is about.
	Hook func(op Op, key string) Fault
	// PartSize is the least that a part but the last has; 0 is 5 MB.
	PartSize int

	mu      sync.Mutex
	buckets map[string]map[string][]byte
	frozen  map[string][]byte
	uploads map[string]*upload
	next    int
}

type upload struct {
	bucket, key string
	parts       map[int][]byte
}

// New returns a store with empty buckets.
func New(buckets ...string) *Server {
	s := &Server{buckets: map[string]map[string][]byte{}, uploads: map[string]*upload{}}
	for _, b := range buckets {
		s.buckets[b] = map[string][]byte{}
	}
	return s
}

// Objects returns the keys of a bucket, sorted.
func (s *Server) Objects(bucket string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.buckets[bucket]))
}

// OpenUploads returns the keys of uploads that are neither complete nor aborted, sorted.
func (s *Server) OpenUploads() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, u := range s.uploads {
		out = append(out, u.key)
	}
	slices.Sort(out)
	return out
}

// Freeze keeps what a bucket lists now, for Fault.Stale.
func (s *Server) Freeze(bucket string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = maps.Clone(s.buckets[bucket])
}

// Change changes an object in place, and reports whether it is there.
func (s *Server) Change(bucket, key string, f func(b []byte) []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.buckets[bucket][key]
	if ok {
		s.buckets[bucket][key] = f(bytes.Clone(b))
	}
	return ok
}

// RoundTrip carries a request out in the caller's goroutine: without a network, for tests in a bubble.
func (s *Server) RoundTrip(r *http.Request) (out *http.Response, err error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler { //nolint:errorlint // as net/http compares it
				panic(p)
			}
			out, err = nil, io.ErrUnexpectedEOF
		}
	}()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	out = w.Result()
	out.Request = r
	if n := w.Header().Get("Content-Length"); n != "" && r.Method != http.MethodHead {
		if want, perr := strconv.Atoi(n); perr == nil && want > w.Body.Len() {
			out.Body = io.NopCloser(io.MultiReader(w.Body, cut{}))
		}
	}
	return out, nil
}

// cut is the end of a body that should be longer.
type cut struct{}

func (cut) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

type failure struct {
	XMLName struct{} `xml:"Error"`
	Code    string
	Message string
	Region  string `xml:",omitempty"`
}

func refuse(w http.ResponseWriter, status int, code string) {
	answer(w, status, failure{Code: code, Message: "test"})
}

func answer(w http.ResponseWriter, status int, v any) {
	b, err := xml.Marshal(v)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = w.Write(b) // the client sees what is missing
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	q := r.URL.Query()
	op := opOf(r, key)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var f Fault
	if s.Hook != nil {
		about := key
		if about == "" {
			about = q.Get("prefix")
		}
		f = s.Hook(op, about)
	}
	if f.Status != 0 || f.Hang || f.Cut && op != Get {
		if f.Done {
			s.serve(httptest.NewRecorder(), r, op, bucket, key, body, f)
		}
		switch {
		case f.Hang:
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		case f.Cut:
			panic(http.ErrAbortHandler)
		default:
			answer(w, f.Status, failure{Code: f.Code, Message: "test", Region: f.Region})
		}
		return
	}
	s.serve(w, r, op, bucket, key, body, f)
}

func opOf(r *http.Request, key string) Op {
	q := r.URL.Query()
	switch {
	case r.Method == http.MethodPut && q.Has("uploadId"):
		return Part
	case r.Method == http.MethodPut:
		return Put
	case r.Method == http.MethodHead:
		return Head
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		return Abort
	case r.Method == http.MethodDelete || r.Method == http.MethodPost && q.Has("delete"):
		return Delete
	case r.Method == http.MethodPost && q.Has("uploads"):
		return Begin
	case r.Method == http.MethodPost:
		return Complete
	case q.Has("uploads"):
		return Uploads
	case key == "":
		return List
	}
	return Get
}

func etag(b []byte) string {
	sum := md5.Sum(b) //nolint:gosec // ETags are MD5 sums
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, op Op, bucket, key string, body []byte, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := r.URL.Query()
	objects := s.buckets[bucket]
	if objects == nil {
		refuse(w, http.StatusNotFound, "NoSuchBucket")
		return
	}
	if op == Put || op == Part {
		sum := sha256.Sum256(body)
		if want := r.Header.Get("X-Amz-Content-Sha256"); want != hex.EncodeToString(sum[:]) {
			refuse(w, http.StatusBadRequest, "XAmzContentSHA256Mismatch")
			return
		}
	}
	u := s.uploads[q.Get("uploadId")]
	if (op == Part || op == Complete || op == Abort) && (u == nil || u.key != key || u.bucket != bucket) {
		refuse(w, http.StatusNotFound, "NoSuchUpload")
		return
	}
	switch op {
	case Put:
		objects[key] = body
		w.Header().Set("ETag", etag(body))
	case Get, Head:
		b, ok := objects[key]
		switch {
		case op == Head && key == "":
			return
		case !ok:
			refuse(w, http.StatusNotFound, "NoSuchKey")
			return
		case r.Header.Get("If-Match") != "" && r.Header.Get("If-Match") != etag(b):
			refuse(w, http.StatusPreconditionFailed, "PreconditionFailed")
			return
		}
		w.Header().Set("ETag", etag(b))
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		from, to, status := 0, len(b)-1, http.StatusOK
		if rng := r.Header.Get("Range"); rng != "" {
			if _, err := fmt.Sscanf(rng, "bytes=%d-%d", &from, &to); err != nil || from > to || from >= len(b) {
				refuse(w, http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
				return
			}
			to, status = min(to, len(b)-1), http.StatusPartialContent
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(b)))
		}
		w.Header().Set("Content-Length", strconv.Itoa(to-from+1))
		w.WriteHeader(status)
		if op == Head {
			return
		}
		if f.Cut {
			_, _ = w.Write(b[from : from+(to-from+1)/2]) // the client sees what is missing
			return
		}
		_, _ = w.Write(b[from : to+1]) // the client sees what is missing
	case Delete:
		if key != "" {
			delete(objects, key)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		var list struct {
			Object []struct{ Key string }
		}
		if err := xml.Unmarshal(body, &list); err != nil {
			refuse(w, http.StatusBadRequest, "MalformedXML")
			return
		}
		for _, o := range list.Object {
			delete(objects, o.Key)
		}
		answer(w, http.StatusOK, struct {
			XMLName struct{} `xml:"DeleteResult"`
		}{})
	case List:
		if f.Stale {
			objects = s.frozen
		}
		answer(w, http.StatusOK, list(objects, q.Get("prefix"), q.Get("delimiter"), q.Get("continuation-token")))
	case Begin:
		s.next++
		id := "upload-" + strconv.Itoa(s.next)
		s.uploads[id] = &upload{bucket: bucket, key: key, parts: map[int][]byte{}}
		answer(w, http.StatusOK, struct {
			XMLName  struct{} `xml:"InitiateMultipartUploadResult"`
			Bucket   string
			Key      string
			UploadID string `xml:"UploadId"`
		}{Bucket: bucket, Key: key, UploadID: id})
	case Part:
		n, err := strconv.Atoi(q.Get("partNumber"))
		if err != nil || n < 1 || n > 10000 {
			refuse(w, http.StatusBadRequest, "InvalidArgument")
			return
		}
		u.parts[n] = body
		w.Header().Set("ETag", etag(body))
	case Complete:
		s.complete(w, u, q.Get("uploadId"), body)
	case Abort:
		delete(s.uploads, q.Get("uploadId"))
		w.WriteHeader(http.StatusNoContent)
	case Uploads:
		type one struct {
			Key      string
			UploadID string `xml:"UploadId"`
		}
		var out struct {
			XMLName struct{} `xml:"ListMultipartUploadsResult"`
			Bucket  string
			Upload  []one
		}
		out.Bucket = bucket
		for _, id := range slices.Sorted(maps.Keys(s.uploads)) {
			if u := s.uploads[id]; u.bucket == bucket && strings.HasPrefix(u.key, q.Get("prefix")) {
				out.Upload = append(out.Upload, one{u.key, id})
			}
		}
		answer(w, http.StatusOK, out)
	}
}

func (s *Server) complete(w http.ResponseWriter, u *upload, id string, body []byte) {
	var list struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	if err := xml.Unmarshal(body, &list); err != nil || len(list.Part) == 0 {
		refuse(w, http.StatusBadRequest, "MalformedXML")
		return
	}
	least := s.PartSize
	if least == 0 {
		least = 5 << 20
	}
	var whole []byte
	for i, p := range list.Part {
		b, ok := u.parts[p.PartNumber]
		if !ok || strings.Trim(p.ETag, `"`) != strings.Trim(etag(b), `"`) {
			refuse(w, http.StatusBadRequest, "InvalidPart")
			return
		}
		if i < len(list.Part)-1 && len(b) < least {
			refuse(w, http.StatusBadRequest, "EntityTooSmall")
			return
		}
		whole = append(whole, b...)
	}
	s.buckets[u.bucket][u.key] = whole
	delete(s.uploads, id)
	answer(w, http.StatusOK, struct {
		XMLName struct{} `xml:"CompleteMultipartUploadResult"`
		Bucket  string
		Key     string
		ETag    string
	}{Bucket: u.bucket, Key: u.key, ETag: etag(whole)})
}

type content struct {
	Key          string
	Size         int
	ETag         string
	LastModified string
}

type prefix struct{ Prefix string }

type listing struct {
	XMLName               struct{} `xml:"ListBucketResult"`
	Prefix                string
	Contents              []content
	CommonPrefixes        []prefix
	IsTruncated           bool
	NextContinuationToken string `xml:",omitempty"`
}

// page is how many entries a list has: few, so that tests turn pages.
const page = 3

func list(objects map[string][]byte, under, delimiter, after string) listing {
	out := listing{Prefix: under}
	last, n := "", 0
	for _, k := range slices.Sorted(maps.Keys(objects)) {
		rest, ok := strings.CutPrefix(k, under)
		if !ok {
			continue
		}
		entry := k
		if i := strings.Index(rest, delimiter); delimiter != "" && i >= 0 {
			entry = under + rest[:i+1]
		}
		if entry == last || entry <= after {
			continue
		}
		if n == page {
			out.IsTruncated, out.NextContinuationToken = true, last
			break
		}
		n++
		last = entry
		if entry != k {
			out.CommonPrefixes = append(out.CommonPrefixes, prefix{entry})
		} else {
			out.Contents = append(out.Contents, content{Key: k, Size: len(objects[k]), ETag: etag(objects[k]), LastModified: "2006-01-02T15:04:05.000Z"})
		}
	}
	return out
}
