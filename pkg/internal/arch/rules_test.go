// Package arch holds no code, only tests: that imports go down the layers, that
// packages which decide do nothing else, that every third-party module has its
// owner, and that mini stays small. The rules are the tables of this file; a
// change to one is a change to the architecture and says so in its commit.
package arch

// module is the module path, and root the directory of its go.mod.
const (
	module = "github.com/rivulet-io/rivulet"
	root   = "../../.."
)

// layers lists every package of the module, lowest first. A package may import
// packages of strictly lower layers; within one layer only a parent may import
// its child, or a child its parent. A trailing /... covers a tree, and the
// longest pattern that matches a package decides.
var layers = [][]string{
	{"pkg/internal/invariant", "pkg/internal/mutant", "pkg/internal/pb/rivulet/plan/v1", "pkg/internal/pb/rivulet/snapshot/v1"},
	// Ground.
	{"pkg/internal/pb/rivulet/rpc/v1", "pkg/codec", "pkg/config", "pkg/fs", "pkg/fs/fault", "pkg/metrics"},
	// Words.
	{"pkg/internal/base", "pkg/event", "pkg/row"},
	// SQL: the language.
	{"pkg/sql/internal/expr"},
	{"pkg/sql/internal/function"},
	// Contracts that users implement or hold.
	{"pkg/connector", "pkg/state"},
	// Decisions, and what the two hosts tell each other.
	{"pkg/internal/align", "pkg/internal/checkpoint/...", "pkg/internal/graph", "pkg/internal/ha/...", "pkg/internal/rpc/..."},
	{"pkg/internal/backend/...", "pkg/internal/exchange/...", "pkg/internal/execution"},
	{"pkg/internal/task"},
	{"pkg/internal/operator/...", "pkg/internal/storage"},
	// The two hosts never import each other.
	{"pkg/internal/jobmanager", "pkg/internal/taskmanager", "pkg/stream"},
	{"pkg/internal/rest", "pkg/sql/internal/ast"},
	{"pkg/sql/internal/parse"},
	{"pkg/sql/internal/bind"},
	{"pkg/sql/internal/conformance"},
	// Leaves: plugins never see each other.
	{"pkg/connector/...", "pkg/fs/...", "pkg/ha/...", "pkg/metrics/...", "pkg/state/..."},
	{"pkg/client", "pkg/cluster"},
	{"pkg/cli"},
	{"pkg/app", "pkg/streamtest"},
	{"examples/count/job", "test/program", "test/realkafka"},
	{"cmd/...", "examples/...", "test/...", "pkg/internal/itest/..."},
}

// pure lists the packages that only decide: Step(event, now) -> effects. They
// have no goroutines, locks, clocks or I/O; their callers own all four.
var pure = []string{
	"pkg/internal/align", "pkg/internal/checkpoint", "pkg/internal/exchange/credit", "pkg/internal/execution", "pkg/internal/graph", "pkg/internal/ha/reign",
	"pkg/sql/internal/ast", "pkg/sql/internal/parse",
}

// impure lists what pure packages do not import.
var impure = []string{
	"bufio", "context", "io", "io/fs", "log/slog", "math/rand", "math/rand/v2", "net", "net/http", "os", "sync", "sync/atomic",
}

// clock lists the functions of package time that read or wait for the clock.
var clock = []string{"After", "AfterFunc", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until"}

// owners says which packages alone may import each third-party module. Anything
// not named here may not be imported at all: adding a dependency is adding a
// line, in a diff someone reads. Test files may use all of these and testOnly.
var owners = map[string][]string{
	"github.com/minio/minio-go/v7":       {"pkg/fs/s3"},
	"github.com/twmb/franz-go":           {"pkg/connector/kafka/...", "examples/demo", "test/..."},
	"github.com/twmb/franz-go/pkg/kfake": {"pkg/streamtest/...", "examples/demo", "test/..."},
	"go.etcd.io/etcd/api/v3":             {"pkg/ha/etcd/..."},
	"go.etcd.io/etcd/client/v3":          {"pkg/ha/etcd/..."},
	"go.opentelemetry.io/otel":           {"pkg/metrics/..."},
	"go.uber.org/zap":                    {"pkg/ha/etcd/..."}, // the etcd client is told to be silent in its terms
	"go.yaml.in/yaml/v3":                 {"pkg/config"},
	"golang.org/x/sync":                  {"pkg/..."},
	"golang.org/x/term":                  {"pkg/app", "pkg/cli"},
	"google.golang.org/grpc":             {"pkg/ha/etcd/...", "pkg/internal/pb/...", "pkg/internal/rpc/..."},
	"google.golang.org/protobuf":         {"pkg/codec", "pkg/connector/kafka", "pkg/internal/..."},
}

// testOnly lists the modules that only test files import.
var testOnly = []string{
	"github.com/cockroachdb/datadriven",
	"github.com/google/go-cmp",
}

// banned lists the packages that nothing we ship imports, and why.
var banned = map[string]string{
	"html/template": "its reflection switches off the linker's pruning of methods",
	"text/template": "its reflection switches off the linker's pruning of methods",
	"math/rand":     "use math/rand/v2",
	"log":           "use the *slog.Logger you were given",
}

// miniBans lists the packages, and trees of packages, that cmd/mini must not
// reach by any way, and why.
var miniBans = map[string]string{
	"cloud.google.com/...":                   "cloud stores are opt-in imports",
	"github.com/aws/...":                     "cloud stores are opt-in imports",
	"github.com/minio/...":                   "cloud stores are opt-in imports",
	"github.com/cockroachdb/pebble/...":      "the disk backend is an opt-in import",
	"github.com/twmb/franz-go/pkg/kfake/...": "a test double; the demo with the embedded broker is examples/demo",
	"go.etcd.io/...":                         "high availability belongs to clusters",
	"golang.org/x/net/trace":                 "it links html/template; build with -tags grpcnotrace",
	"html/template":                          "its reflection switches off the linker's pruning of methods",
	"text/template":                          "its reflection switches off the linker's pruning of methods",
	"testing":                                "tests are not shipped",
	module + "/pkg/streamtest/...":           "tests are not shipped",
}
