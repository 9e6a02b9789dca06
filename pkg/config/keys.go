package config

import (
	"errors"
	"math"
	"strings"
	"time"
)

// unlimited is what an unlimited count is set to; Flink uses the same number.
const unlimited = math.MaxInt32

// The job.
var (
	Parallelism = Key[int]{
		Name: "parallelism.default", Default: 1, parse: integer(1, 1<<15),
		Doc: "The parallelism of operators that set none themselves.",
	}
	JobName = Key[string]{
		Name: "pipeline.name", parse: parseText,
		Doc: "The job's name, where the program sets none. A mini knows a job in its data directory by this name.",
	}
	MaxParallelism = Key[int]{
		Name: "pipeline.max-parallelism", Default: -1, parse: maxParallelism,
		Doc: "The number of key groups, which bounds the parallelism for ever: 1 to 32768. -1 derives it from the parallelism, at least 128.",
	}
	AutoWatermarkInterval = Key[time.Duration]{
		Name: "pipeline.auto-watermark-interval", Default: 200 * time.Millisecond, parse: duration(0),
		Doc: "How often sources emit watermarks. 0 emits after every batch of records.",
	}
	ObjectReuse = Key[bool]{
		Name: "pipeline.object-reuse", Default: false, parse: parseBool,
		Doc: "Hand a record to the next operator of a chain without a copy, although the function may keep or change it.",
	}
	OperatorChaining = Key[bool]{
		Name: "pipeline.operator-chaining.enabled", Old: []string{"pipeline.operator-chaining"}, Default: true, parse: parseBool,
		Doc: "Run operators that follow one another in the same task.",
	}
	AutoGenerateUIDs = Key[bool]{
		Name: "pipeline.auto-generate-uids", Default: true, parse: parseBool,
		Doc: "Derive the id of an operator without a uid from the shape of the graph. When false each operator needs a uid, or the job is not built.",
	}
	BufferTimeout = Key[time.Duration]{
		Name: "execution.buffer-timeout.interval", Old: []string{"execution.buffer-timeout"}, Default: 100 * time.Millisecond, parse: duration(0),
		Doc: "How long a record may wait at an exchange for a batch to fill. 0 sends each record at once.",
	}
)

// Checkpoints: see Checkpointing for all of them together.
var (
	CheckpointInterval = Key[time.Duration]{
		Name: "execution.checkpointing.interval", Default: 10 * time.Second, Flink: "none", parse: interval,
		Doc: "How often a checkpoint is taken, at least 10 ms. `none` or 0 switches checkpoints off.",
	}
	CheckpointMode = Key[Mode]{
		Name: "execution.checkpointing.mode", Default: ExactlyOnce, parse: oneOf(ExactlyOnce, AtLeastOnce),
		Doc: "`EXACTLY_ONCE` aligns barriers; `AT_LEAST_ONCE` does not wait for them, and counts records twice after a failure.",
	}
	CheckpointTimeout = Key[time.Duration]{
		Name: "execution.checkpointing.timeout", Default: 10 * time.Minute, parse: duration(10 * time.Millisecond),
		Doc: "How long a checkpoint may take before it is given up.",
	}
	CheckpointMinPause = Key[time.Duration]{
		Name: "execution.checkpointing.min-pause", Default: 0, parse: duration(0),
		Doc: "The least time from the completion of a checkpoint to the next one. When it is more than 0 only one checkpoint runs at a time.",
	}
	MaxConcurrentCheckpoints = Key[int]{
		Name: "execution.checkpointing.max-concurrent-checkpoints", Default: 1, parse: integer(1, unlimited),
		Doc: "How many checkpoints may run at the same time.",
	}
	TolerableFailedCheckpoints = Key[int]{
		Name: "execution.checkpointing.tolerable-failed-checkpoints", Default: unlimited, Flink: "0", parse: integer(0, unlimited),
		Doc: "How many checkpoints in a row may fail before the job does. Each failure is logged. The default is without limit.",
	}
	RetainedCheckpoints = Key[int]{
		Name: "execution.checkpointing.num-retained", Old: []string{"state.checkpoints.num-retained"}, Default: 2, Flink: "1", parse: integer(1, unlimited),
		Doc: "How many completed checkpoints are kept. The second is what a damaged newest one falls back to.",
	}
	CheckpointDir = Key[string]{
		Name: "execution.checkpointing.dir", Old: []string{"state.checkpoints.dir", "state.backend.fs.checkpointdir"}, parse: parseText, Flink: "none",
		Doc: "The directory or URI of checkpoints. Empty: below the data directory.",
	}
	SavepointDir = Key[string]{
		Name: "execution.checkpointing.savepoint-dir", Old: []string{"state.savepoints.dir", "savepoints.state.backend.fs.dir"}, parse: parseText, Flink: "none",
		Doc: "The directory or URI of savepoints that name none. Empty: `savepoints` in the data directory.",
	}
	CheckpointRetention = Key[Retention]{
		Name: "execution.checkpointing.externalized-checkpoint-retention", Default: RetainOnCancellation, Flink: "NO_EXTERNALIZED_CHECKPOINTS",
		parse: oneOf(RetainOnCancellation, DeleteOnCancellation, NoExternalizedCheckpoints),
		Doc:   "What becomes of checkpoints when the job ends: `RETAIN_ON_CANCELLATION` keeps them unless it finished, `DELETE_ON_CANCELLATION` keeps them when it failed, `NO_EXTERNALIZED_CHECKPOINTS` never. A mini that is stopped with a signal suspends its job and always keeps them.",
	}
	IncrementalCheckpoints = Key[bool]{
		Name: "execution.checkpointing.incremental", Old: []string{"state.backend.incremental"}, Default: true, Flink: "false", parse: parseBool,
		Doc: "Write only what changed since the last checkpoint. When false each checkpoint is written in full.",
	}
	CheckpointsAfterTasksFinish = Key[bool]{
		Name: "execution.checkpointing.checkpoints-after-tasks-finish", Old: []string{"execution.checkpointing.checkpoints-after-tasks-finish.enabled"}, Default: true, parse: parseBool,
		Doc: "Take checkpoints also when a part of the tasks has finished.",
	}
	LocalBackup = Key[bool]{
		Name: "execution.checkpointing.local-backup.enabled", Default: false, parse: parseBool,
		Doc: "Keep a copy of the state of the newest checkpoint with the TaskManager that wrote it. Not set: what `execution.state-recovery.from-local` says.",
	}
	LocalBackupDirs = Key[string]{
		Name: "execution.checkpointing.local-backup.dirs", Old: []string{"taskmanager.state.local.root-dirs"}, parse: parseText, Flink: "none",
		Doc: "The directories of a TaskManager's copies of state, with commas between, used in turn; they are this TaskManager's alone. Empty: `localState` in its data directory; without one there are no copies.",
	}
	LocalRecovery = Key[bool]{
		Name: "execution.state-recovery.from-local", Old: []string{"state.backend.local-recovery"}, Default: false, parse: parseBool,
		Doc: "Restore tasks from the TaskManager's own copies of the checkpoint where it has them: worth it where checkpoints are on another host (`s3://`, `jobmanager://`). A copy that is missing or damaged is said, and the checkpoint itself read.",
	}
	RestorePath = Key[string]{
		Name: "execution.state-recovery.path", Old: []string{"execution.savepoint.path"}, parse: parseText, Flink: "none",
		Doc: "The savepoint or retained checkpoint to start from, as `--from-savepoint`.",
	}
	RestoreIgnoreUnclaimed = Key[bool]{
		Name: "execution.state-recovery.ignore-unclaimed-state", Old: []string{"execution.savepoint.ignore-unclaimed-state"}, Default: false, parse: parseBool,
		Doc: "Start although the savepoint has state of operators that the program no longer has, as `--allow-non-restored-state`.",
	}
	RestoreClaimMode = Key[ClaimMode]{
		Name: "execution.state-recovery.claim-mode", Old: []string{"execution.savepoint-restore-mode"}, Default: NoClaim, parse: oneOf(NoClaim, Claim),
		Doc: "`NO_CLAIM` never touches the savepoint, and the first checkpoint is written in full; `CLAIM` owns it and deletes it when it is no longer needed. `LEGACY` is refused: it left open who owns the files.",
	}
)

// Restarts: see RestartStrategy for all of them together.
var (
	RestartType = Key[RestartKind]{
		Name: "restart-strategy.type", Old: []string{"restart-strategy"}, Default: "", Flink: "none set", parse: restartKind,
		Doc: "What happens when a task fails: `none` (also `off`, `disable`), `fixed-delay`, `failure-rate` or `exponential-delay`. Not set: `exponential-delay` when there are checkpoints, `none` otherwise.",
	}
	FixedDelayAttempts = Key[int]{
		Name: "restart-strategy.fixed-delay.attempts", Default: 1, parse: integer(0, unlimited),
		Doc: "How often the job is restarted before it fails.",
	}
	FixedDelay = Key[time.Duration]{
		Name: "restart-strategy.fixed-delay.delay", Default: time.Second, parse: duration(0),
		Doc: "The wait before a restart.",
	}
	FailureRateMax = Key[int]{
		Name: "restart-strategy.failure-rate.max-failures-per-interval", Default: 1, parse: integer(1, unlimited),
		Doc: "How many failures in one interval are followed by a restart; one more and the job fails.",
	}
	FailureRateInterval = Key[time.Duration]{
		Name: "restart-strategy.failure-rate.failure-rate-interval", Default: time.Minute, parse: duration(time.Millisecond),
		Doc: "The interval in which failures are counted.",
	}
	FailureRateDelay = Key[time.Duration]{
		Name: "restart-strategy.failure-rate.delay", Default: time.Second, parse: duration(0),
		Doc: "The wait before a restart.",
	}
	InitialBackoff = Key[time.Duration]{
		Name: "restart-strategy.exponential-delay.initial-backoff", Default: time.Second, parse: duration(time.Millisecond),
		Doc: "The wait before the first restart.",
	}
	MaxBackoff = Key[time.Duration]{
		Name: "restart-strategy.exponential-delay.max-backoff", Default: time.Minute, parse: duration(time.Millisecond),
		Doc: "The longest wait before a restart.",
	}
	BackoffMultiplier = Key[float64]{
		Name: "restart-strategy.exponential-delay.backoff-multiplier", Default: 1.5,
		parse: number(func(f float64) bool { return f > 1 }, "want a number greater than 1"),
		Doc:   "Each wait is this many times the one before.",
	}
	ResetBackoffThreshold = Key[time.Duration]{
		Name: "restart-strategy.exponential-delay.reset-backoff-threshold", Default: time.Hour, parse: duration(time.Millisecond),
		Doc: "How long the job has to run without a failure for the wait to start small again.",
	}
	BackoffJitter = Key[float64]{
		Name: "restart-strategy.exponential-delay.jitter-factor", Default: 0.1,
		parse: number(func(f float64) bool { return f >= 0 && f <= 1 }, "want a number from 0 to 1"),
		Doc:   "The part of each wait by which it is made longer or shorter at random, from 0 to 1.",
	}
	BackoffAttempts = Key[int]{
		Name: "restart-strategy.exponential-delay.attempts-before-reset-backoff", Default: unlimited, parse: integer(1, unlimited),
		Doc: "How many failures may follow one another before the job fails. The default is without limit.",
	}
	FailoverStrategy = Key[Failover]{
		Name: "jobmanager.execution.failover-strategy", Default: FailoverRegion, parse: oneOf(FailoverRegion, FailoverFull),
		Doc: "`region` restarts the tasks that are connected with the one that failed, `full` all tasks of the job.",
	}
)

// The process.
var (
	TaskSlots = Key[int]{
		Name: "taskmanager.numberOfTaskSlots", Default: 0, Flink: "1", parse: integer(0, 1<<15),
		Doc: "How many slots there are: the greatest parallelism that runs. 0: as many as the jobs need.",
	}
	ProcessMemory = Key[Bytes]{
		Name: "taskmanager.memory.process.size", Default: 0, Flink: "none", parse: ParseBytes,
		Doc: "The memory that the process may have resident, as `--memory`: a job that needs more fails with the operator that holds the most. 0: it grows with the state.",
	}
	NetworkMemory = Key[Bytes]{
		Name: "taskmanager.memory.network.max", Old: []string{"taskmanager.network.memory.max"}, Default: 0, Flink: "unlimited", parse: ParseBytes,
		Doc: "The memory for records on their way between tasks. 0: derived from the process memory.",
	}
	HeartbeatInterval = Key[time.Duration]{
		Name: "heartbeat.interval", Default: 10 * time.Second, parse: duration(time.Millisecond),
		Doc: "How often JobManager and TaskManager tell each other that they live.",
	}
	HeartbeatTimeout = Key[time.Duration]{
		Name: "heartbeat.timeout", Default: 50 * time.Second, parse: duration(time.Millisecond),
		Doc: "How long one may be silent before the other takes it for lost. It must exceed the interval.",
	}
)

// High availability: several JobManagers, of which one leads.
var (
	HighAvailability = Key[string]{
		Name: "high-availability.type", Old: []string{"high-availability", "recovery.mode"}, Default: "none", parse: oneOf("none", "etcd"),
		Doc: "Where JobManagers elect their leader and keep what must outlive it: `none`, or `etcd` if the program has imported `pkg/ha/etcd`. A mini has one JobManager, and keeps it in its data directory.",
	}
	HAClusterID = Key[string]{
		Name: "high-availability.cluster-id", Old: []string{"high-availability.zookeeper.path.namespace", "recovery.zookeeper.path.namespace"}, Default: "default", Flink: "/default", parse: clusterID,
		Doc: "Tells clusters apart that share a store: letters, digits, `.`, `_` and `-`. All JobManagers of a cluster have the same.",
	}
	HAStorageDir = Key[string]{
		Name: "high-availability.storageDir", Old: []string{"high-availability.zookeeper.storageDir", "recovery.zookeeper.storageDir"}, parse: parseText, Flink: "none",
		Doc: "The directory or URI, seen by all processes of the cluster, of what JobManagers share: checkpoints and savepoints lie below it unless they have directories of their own. Needed with high availability.",
	}
	HASuspendedTimeout = Key[time.Duration]{
		Name: "high-availability.suspended-timeout", Default: 2 * time.Minute, parse: duration(0),
		Doc: "How long a leader that cannot reach the store, and that nobody has replaced, leaves its jobs running. It takes no checkpoints and deploys nothing meanwhile.",
	}
	EtcdEndpoints = Key[string]{
		Name: "high-availability.etcd.endpoints", parse: parseText,
		Doc: "The members of the etcd cluster, with commas between: `http://10.0.0.1:2379,http://10.0.0.2:2379`. With `https` and without a CA the system's certificates are trusted.",
	}
	EtcdLease = Key[time.Duration]{
		Name: "high-availability.etcd.leader-election.lease-duration", Default: 10 * time.Second, parse: duration(2 * time.Second),
		Doc: "How long a leader that does not renew its lease is waited for, in whole seconds: the longest time until another one takes over.",
	}
	EtcdUser = Key[string]{
		Name: "high-availability.etcd.username", parse: parseText,
		Doc: "The user of etcd that JobManagers log in as. It needs to read and write below `/rivulet/CLUSTER-ID/`.",
	}
	EtcdPassword = Key[string]{
		Name: "high-availability.etcd.password", parse: parseText,
		Doc: "Its password.",
	}
	EtcdCA = Key[string]{
		Name: "high-availability.etcd.ssl.ca", parse: parseText,
		Doc: "The file of the certificates that may have signed the members' certificates, in PEM. It is read anew when it changes.",
	}
	EtcdCert = Key[string]{
		Name: "high-availability.etcd.ssl.cert", parse: parseText,
		Doc: "The file of the certificate that JobManagers show to etcd, in PEM. It is read anew when it changes.",
	}
	EtcdKey = Key[string]{
		Name: "high-availability.etcd.ssl.key", parse: parseText,
		Doc: "The file of the key of that certificate, in PEM.",
	}
)

// Slots and tasks of a cluster.
var (
	HeartbeatFailureThreshold = Key[int]{
		Name: "heartbeat.rpc-failure-threshold", Default: 2, parse: integer(-1, unlimited),
		Doc: "How many heartbeats in a row that find nobody at the TaskManager's address make it lost before heartbeat.timeout is over. -1 always waits for the timeout.",
	}
	SlotRequestTimeout = Key[time.Duration]{
		Name: "slot.request.timeout", Default: 5 * time.Minute, parse: duration(0),
		Doc: "How long a job waits for slots before that is a failure. 0 waits for ever.",
	}
	EvenlySpreadOutSlots = Key[bool]{
		Name: "cluster.evenly-spread-out-slots", Default: true, Flink: "false", parse: parseBool,
		Doc: "Take slots of the TaskManager that has the most free ones. When false one is filled before the next.",
	}
	CancellationInterval = Key[time.Duration]{
		Name: "task.cancellation.interval", Old: []string{"task.cancellation-interval"}, Default: 30 * time.Second, parse: duration(time.Millisecond),
		Doc: "How often it is logged, with its stack, that a canceled task has not ended yet.",
	}
	CancellationTimeout = Key[time.Duration]{
		Name: "task.cancellation.timeout", Default: 3 * time.Minute, parse: duration(0),
		Doc: "How long a canceled task may take to end. Then its process ends, with an error: nothing else would end it. 0 waits for ever.",
	}
)

// The processes of a cluster, and how they find each other.
var (
	JobManagerAddress = Key[string]{
		Name: "jobmanager.rpc.address", Default: "127.0.0.1", Flink: "none", parse: parseText,
		Doc: "The host by which TaskManagers find the JobManager; `--rpc-address` of a JobManager and `--jobmanager` of a TaskManager name host and port. A mini listens nowhere.",
	}
	JobManagerPort = Key[int]{
		Name: "jobmanager.rpc.port", Default: 6123, parse: port,
		Doc: "The port by which TaskManagers find the JobManager. 0 takes a free one, which the JobManager logs.",
	}
	JobManagerBindHost = Key[string]{
		Name: "jobmanager.bind-host", parse: parseText,
		Doc: "The address of this machine at which the JobManager listens for TaskManagers, such as `0.0.0.0`. Not set: jobmanager.rpc.address.",
	}
	JobManagerBindPort = Key[int]{
		Name: "jobmanager.rpc.bind-port", Default: 0, Flink: "none", parse: port,
		Doc: "The port at which the JobManager listens, where others find it at another one. 0: jobmanager.rpc.port.",
	}
	TaskManagerHost = Key[string]{
		Name: "taskmanager.host", parse: parseText,
		Doc: "The host by which the JobManager and other TaskManagers find a TaskManager. Not set: the address by which its machine reaches the JobManager.",
	}
	TaskManagerPort = Key[int]{
		Name: "taskmanager.rpc.port", Default: 0, parse: port,
		Doc: "The port by which others find a TaskManager, for calls and records. 0 takes a free one.",
	}
	TaskManagerBindHost = Key[string]{
		Name: "taskmanager.bind-host", parse: parseText,
		Doc: "The address of this machine at which a TaskManager listens, such as `0.0.0.0`. Not set: taskmanager.host.",
	}
	TaskManagerBindPort = Key[int]{
		Name: "taskmanager.rpc.bind-port", Default: 0, Flink: "none", parse: port,
		Doc: "The port at which a TaskManager listens, where others find it at another one. 0: taskmanager.rpc.port.",
	}
	TaskManagerID = Key[string]{
		Name: "taskmanager.resource-id", parse: parseText,
		Doc: "The name of a TaskManager, which no other of the cluster may have at the same time. Not set: the machine's name and a random number.",
	}
	InternalTLS = Key[bool]{
		Name: "security.ssl.internal.enabled", Default: false, parse: parseBool,
		Doc: "Encrypt what the processes of a cluster say and send to each other, and let only those take part that have a certificate of `security.ssl.internal.ca` (mutual TLS 1.3).",
	}
	InternalCert = Key[string]{
		Name: "security.ssl.internal.cert", parse: parseText,
		Doc: "The file of the certificate that this process shows to others, with those between it and the CA, in PEM. Files are read anew for each connection: no restart is needed when they change.",
	}
	InternalKey = Key[string]{
		Name: "security.ssl.internal.key", parse: parseText,
		Doc: "The file of the key of that certificate, in PEM.",
	}
	InternalCA = Key[string]{
		Name: "security.ssl.internal.ca", parse: parseText,
		Doc: "The file of the certificates that must have signed those of others, in PEM. It should sign for this cluster alone: host names are not looked at, as in Flink.",
	}
)

// REST.
var (
	RestAddress = Key[string]{
		Name: "rest.address", Default: "127.0.0.1", Flink: "none", parse: parseText,
		Doc: "The host under which clients reach the REST server.",
	}
	RestPort = Key[int]{
		Name: "rest.port", Old: []string{"web.port", "jobmanager.web.port"}, Default: 8081, parse: port,
		Doc: "The port under which clients reach the REST server, and on which it listens unless rest.bind-port is set. 0 takes a free one.",
	}
	RestBindAddress = Key[string]{
		Name: "rest.bind-address", Old: []string{"web.address", "jobmanager.web.address"}, Default: "127.0.0.1", Flink: "none", parse: parseText,
		Doc: "The address on which the REST server listens. Nothing protects it: leave it on loopback, or make sure who reaches it.",
	}
	RestBindPorts = Key[[]int]{
		Name: "rest.bind-port", Default: nil, Flink: "8081", parse: ports,
		Doc: "The ports on which the REST server tries to listen, in turn: numbers and ranges such as `8081,9000-9010`. Not set: rest.port.",
	}
	RestStoreDuration = Key[time.Duration]{
		Name: "rest.async.store-duration", Default: 5 * time.Minute, parse: duration(0),
		Doc: "How long the result of a triggered savepoint or checkpoint can be asked for.",
	}
	WebRefreshInterval = Key[time.Duration]{
		Name: "web.refresh-interval", Old: []string{"jobmanager.web.refresh-interval"}, Default: 3 * time.Second, parse: duration(time.Millisecond),
		Doc: "How often clients are told to ask again (in /config). What REST answers is always of that moment.",
	}
	WebHistory = Key[int]{
		Name: "web.history", Old: []string{"jobmanager.web.history"}, Default: 5, parse: integer(0, unlimited),
		Doc: "How many ended jobs REST still shows.",
	}
	WebCheckpointsHistory = Key[int]{
		Name: "web.checkpoints.history", Old: []string{"jobmanager.web.checkpoints.history"}, Default: 10, parse: integer(0, unlimited),
		Doc: "How many past checkpoints of a job REST shows.",
	}
	WebExceptionHistory = Key[int]{
		Name: "web.exception-history-size", Default: 16, parse: integer(1, unlimited),
		Doc: "How many past failures of a job REST shows.",
	}
)

// S3, for programs that link package fs/s3.
var (
	S3AccessKey = Key[string]{
		Name: "s3.access-key", Old: []string{"s3.access.key"}, parse: parseText, Flink: "none",
		Doc: "The access key for `s3://`. Not set: that of `AWS_ACCESS_KEY_ID`, of `~/.aws/credentials`, or of the machine's or pod's role.",
	}
	S3SecretKey = Key[string]{
		Name: "s3.secret-key", Old: []string{"s3.secret.key"}, parse: parseText, Flink: "none",
		Doc: "The secret key that belongs to s3.access-key.",
	}
	S3SessionToken = Key[string]{
		Name: "s3.session.token", parse: parseText, Flink: "none",
		Doc: "The session token that belongs to s3.access-key, where it is a temporary one.",
	}
	S3Endpoint = Key[string]{
		Name: "s3.endpoint", parse: parseText, Flink: "none",
		Doc: "The address of a store that is not Amazon's, such as `http://127.0.0.1:9000`. Without a scheme it is https.",
	}
	S3Region = Key[string]{
		Name: "s3.endpoint.region", Old: []string{"s3.region"}, parse: parseText, Flink: "none",
		Doc: "The region of the bucket. Not set: Amazon is asked, others are taken for `us-east-1`.",
	}
	S3PathStyle = Key[bool]{
		Name: "s3.path.style.access", Old: []string{"s3.path-style-access"}, Default: false, parse: parseBool,
		Doc: "Name the bucket in the path of a URL instead of its host. A store that is not Amazon's is asked so in any case unless this is set to false.",
	}
	S3PartSize = Key[Bytes]{
		Name: "s3.upload.min.part.size", Default: 5 << 20, parse: partSize,
		Doc: "A larger file is uploaded in parts of this size, `5 mb` to `1 gb`. Each file that is being written holds one in memory.",
	}
	S3Attempts = Key[int]{
		Name: "s3.attempts.maximum", Default: 10, Flink: "20", parse: integer(1, 100),
		Doc: "How often a request is tried that the store throttles, or does not answer.",
	}
	S3Timeout = Key[time.Duration]{
		Name: "s3.connection.timeout", Default: 30 * time.Second, Flink: "200 s", parse: duration(time.Millisecond),
		Doc: "How long a request may take, besides what its bytes take at 256 KB a second.",
	}
)

// acted are the keys above, in the order of the reference page.
var acted = [...]key{
	&Parallelism, &JobName, &MaxParallelism, &AutoWatermarkInterval, &ObjectReuse, &OperatorChaining, &AutoGenerateUIDs,
	&BufferTimeout,
	&CheckpointInterval, &CheckpointMode, &CheckpointTimeout, &CheckpointMinPause, &MaxConcurrentCheckpoints,
	&TolerableFailedCheckpoints, &RetainedCheckpoints, &CheckpointDir, &SavepointDir, &CheckpointRetention,
	&IncrementalCheckpoints, &CheckpointsAfterTasksFinish, &LocalBackup, &LocalBackupDirs, &LocalRecovery, &RestorePath, &RestoreIgnoreUnclaimed, &RestoreClaimMode,
	&RestartType, &FixedDelayAttempts, &FixedDelay, &FailureRateMax, &FailureRateInterval, &FailureRateDelay,
	&InitialBackoff, &MaxBackoff, &BackoffMultiplier, &ResetBackoffThreshold, &BackoffJitter, &BackoffAttempts,
	&FailoverStrategy,
	&HighAvailability, &HAClusterID, &HAStorageDir, &HASuspendedTimeout,
	&EtcdEndpoints, &EtcdLease, &EtcdUser, &EtcdPassword, &EtcdCA, &EtcdCert, &EtcdKey,
	&TaskSlots, &ProcessMemory, &NetworkMemory, &HeartbeatInterval, &HeartbeatTimeout,
	&HeartbeatFailureThreshold, &SlotRequestTimeout, &EvenlySpreadOutSlots, &CancellationInterval, &CancellationTimeout,
	&JobManagerAddress, &JobManagerPort, &JobManagerBindHost, &JobManagerBindPort, &TaskManagerHost, &TaskManagerPort, &TaskManagerBindHost, &TaskManagerBindPort,
	&TaskManagerID, &InternalTLS, &InternalCert, &InternalKey, &InternalCA,
	&RestAddress, &RestPort, &RestBindAddress, &RestBindPorts, &RestStoreDuration, &WebRefreshInterval, &WebHistory,
	&WebCheckpointsHistory, &WebExceptionHistory,
	&S3AccessKey, &S3SecretKey, &S3SessionToken, &S3Endpoint, &S3Region, &S3PathStyle, &S3PartSize, &S3Attempts, &S3Timeout,
}

// clusterID reads a name that may be part of a path. Flink's default has a leading slash.
func clusterID(text string) (string, error) {
	id := strings.TrimPrefix(text, "/")
	if id == "" || len(id) > 128 || strings.Trim(id, ".") == "" || strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" {
		return "", errors.New("want 1 to 128 letters, digits, dots, underscores and hyphens")
	}
	return id, nil
}

// maxParallelism reads -1, or the number of key groups.
func maxParallelism(text string) (int, error) {
	if text == "-1" {
		return -1, nil
	}
	n, err := integer(1, 1<<15)(text)
	if err != nil {
		return 0, errMaxParallelism
	}
	return n, nil
}
