package rest

// route is a path, and what serves it.
type route struct {
	// method and path are as in Flink's specification.
	method, path string
	// serve is nil for what this release does not serve, and why says why.
	serve func(*request) (any, error)
	why   string
}

const (
	noJobs   = "a program is linked into the processes that run it: GET /jars lists those of this one"
	sessions = "this release has one application to a process: its jobs are at /jobs"
	rescales = "jobs are not rescaled while they run in this release: stop with a savepoint and start with another parallelism"
	noLogs   = "the process logs to its standard error, and keeps no file of it"
	java     = "it carries serialized Java objects"
	byGet    = "a GET that changes something can be sent by any page the user looks at: use PATCH or POST"
)

// routes are all paths of Flink's REST API, in the order of its specification, and then what it serves without saying so, and our own.
// TestCoverage compares them with the specification's.
var routes = []route{
	{"GET", "/applications/overview", nil, sessions},
	{"GET", "/applications/{applicationid}", nil, sessions},
	{"POST", "/applications/{applicationid}/cancel", nil, sessions},
	{"GET", "/applications/{applicationid}/exceptions", nil, sessions},
	{"GET", "/applications/{applicationid}/jobmanager/config", nil, sessions},
	{"DELETE", "/cluster", nil, "the process is ended by SIGTERM, which suspends its jobs"},
	{"GET", "/config", (*request).config, ""},
	{"GET", "/datasets", nil, "batch jobs keep no intermediate results in this release"},
	{"GET", "/datasets/delete/{triggerid}", nil, "batch jobs keep no intermediate results in this release"},
	{"DELETE", "/datasets/{datasetid}", nil, "batch jobs keep no intermediate results in this release"},
	{"GET", "/jars", (*request).jars, ""},
	{"POST", "/jars/upload", nil, noJobs},
	{"DELETE", "/jars/{jarid}", nil, noJobs},
	{"POST", "/jars/{jarid}/plan", nil, noJobs},
	{"POST", "/jars/{jarid}/run", (*request).runJar, ""},
	{"POST", "/jars/{jarid}/run-application", nil, noJobs},
	{"GET", "/jobmanager/config", (*request).jobManagerConfig, ""},
	{"GET", "/jobmanager/environment", (*request).environment, ""},
	{"GET", "/jobmanager/logs", (*request).logs, ""},
	{"GET", "/jobmanager/metrics", (*request).jobManagerMetrics, ""},
	{"GET", "/jobmanager/thread-dump", (*request).threadDump, ""},
	{"GET", "/jobs", (*request).jobList, ""},
	{"GET", "/jobs/metrics", (*request).jobsMetrics, ""},
	{"GET", "/jobs/overview", (*request).jobsOverview, ""},
	{"GET", "/jobs/{jobid}", (*request).jobDetails, ""},
	{"PATCH", "/jobs/{jobid}", (*request).cancel, ""},
	{"GET", "/jobs/{jobid}/accumulators", (*request).accumulators, ""},
	{"GET", "/jobs/{jobid}/checkpoints", (*request).checkpoints, ""},
	{"POST", "/jobs/{jobid}/checkpoints", (*request).checkpoint, ""},
	{"GET", "/jobs/{jobid}/checkpoints/config", (*request).checkpointsConfig, ""},
	{"GET", "/jobs/{jobid}/checkpoints/details/{checkpointid}", (*request).checkpointDetails, ""},
	{"GET", "/jobs/{jobid}/checkpoints/details/{checkpointid}/subtasks/{vertexid}", (*request).checkpointSubtasks, ""},
	{"GET", "/jobs/{jobid}/checkpoints/{triggerid}", (*request).checkpointStatus, ""},
	{"PATCH", "/jobs/{jobid}/clientHeartbeat", nil, "a job does not depend on the client that started it"},
	{"GET", "/jobs/{jobid}/config", (*request).jobConfig, ""},
	{"GET", "/jobs/{jobid}/exceptions", (*request).exceptions, ""},
	{"GET", "/jobs/{jobid}/execution-result", (*request).executionResult, ""},
	{"GET", "/jobs/{jobid}/jobmanager/config", (*request).jobManagerConfigOfJob, ""},
	{"GET", "/jobs/{jobid}/jobmanager/environment", nil, "only Flink's history server has it"},
	{"GET", "/jobs/{jobid}/jobmanager/log-url", nil, "only Flink's history server has it"},
	{"GET", "/jobs/{jobid}/metrics", (*request).jobMetrics, ""},
	{"GET", "/jobs/{jobid}/plan", (*request).jobPlan, ""},
	{"GET", "/jobs/{jobid}/rescales/config", nil, rescales},
	{"GET", "/jobs/{jobid}/rescales/details/{rescaleuuid}", nil, rescales},
	{"GET", "/jobs/{jobid}/rescales/history", nil, rescales},
	{"GET", "/jobs/{jobid}/rescales/overview", nil, rescales},
	{"GET", "/jobs/{jobid}/rescales/summary", nil, rescales},
	{"PATCH", "/jobs/{jobid}/rescaling", nil, rescales},
	{"GET", "/jobs/{jobid}/rescaling/{triggerid}", nil, rescales},
	{"GET", "/jobs/{jobid}/resource-requirements", (*request).requirements, ""},
	{"PUT", "/jobs/{jobid}/resource-requirements", nil, rescales},
	{"POST", "/jobs/{jobid}/savepoints", (*request).savepoint, ""},
	{"GET", "/jobs/{jobid}/savepoints/{triggerid}", (*request).savepointStatus, ""},
	{"GET", "/jobs/{jobid}/status", (*request).jobStatus, ""},
	{"POST", "/jobs/{jobid}/stop", (*request).stop, ""},
	{"GET", "/jobs/{jobid}/taskmanagers/{taskmanagerid}/log-url", nil, "only Flink's history server has it"},
	{"GET", "/jobs/{jobid}/vertices/{vertexid}", (*request).vertexDetails, ""},
	{"GET", "/jobs/{jobid}/vertices/{vertexid}/accumulators", (*request).vertexAccumulators, ""},
	{"GET", "/jobs/{jobid}/vertices/{vertexid}/backpressure", (*request).backpressure, ""},
	{"GET", "/jobs/{jobid}/vertices/{vertexid}/flamegraph", (*request).flameGraph, ""},
	{"GET", "/jobs/{jobid}/vertices/{vertexid}/jm-operator-metrics", (*request).coordinatorMetrics, ""},
	{"GET", "/jobs/{jobid}/vertices/{vertexid}/metrics", (*request).vertexMetrics, ""},
	{"GET", "/jobs/{jobid}/vertices/{vertexid}/subtasks/accumulators", (*request).subtasksAccumulators, ""},
	{"GET", "/jobs/{jobid}/vertices/{vertexid}/subtasks/metrics", (*request).subtasksMetrics, ""},
	{"GET", "/jobs/{jobid}/vertices/{vertexid}/subtasks/{subtaskindex}", (*request).subtaskDetails, ""},
	{"GET", "/jobs/{jobid}/vertices/{vertexid}/subtasks/{subtaskindex}/attempts/{attempt}", (*request).subtaskDetails, ""},
	{"GET", "/jobs/{jobid}/vertices/{vertexid}/subtasks/{subtaskindex}/attempts/{attempt}/accumulators", (*request).attemptAccumulators, ""},
	{"GET", "/jobs/{jobid}/vertices/{vertexid}/subtasks/{subtaskindex}/metrics", (*request).subtaskMetrics, ""},
	{"GET", "/jobs/{jobid}/vertices/{vertexid}/subtasktimes", (*request).subtaskTimes, ""},
	{"GET", "/jobs/{jobid}/vertices/{vertexid}/taskmanagers", (*request).vertexTaskManagers, ""},
	{"GET", "/jobs/{jobid}/vertices/{vertexid}/watermarks", (*request).watermarks, ""},
	{"GET", "/overview", (*request).overview, ""},
	{"POST", "/savepoint-disposal", (*request).dispose, ""},
	{"GET", "/savepoint-disposal/{triggerid}", (*request).disposalStatus, ""},
	{"GET", "/taskmanagers", (*request).taskManagers, ""},
	{"GET", "/taskmanagers/metrics", (*request).taskManagersMetrics, ""},
	{"GET", "/taskmanagers/{taskmanagerid}", (*request).taskManagerDetails, ""},
	{"GET", "/taskmanagers/{taskmanagerid}/logs", (*request).taskManagerLogs, ""},
	{"GET", "/taskmanagers/{taskmanagerid}/metrics", (*request).taskManagerMetrics, ""},
	{"GET", "/taskmanagers/{taskmanagerid}/thread-dump", (*request).taskManagerThreadDump, ""},

	// What Flink serves and its specification does not list.
	{"POST", "/jobs", nil, java},
	{"POST", "/jobs/{jobid}/coordinators/{operatoruid}", nil, java},
	{"GET", "/jobs/{jobid}/yarn-cancel", nil, byGet},
	{"GET", "/jobs/{jobid}/yarn-stop", nil, byGet},
	{"GET", "/jars/{jarid}/plan", nil, noJobs},
	{"GET", "/jobmanager/log", nil, noLogs},
	{"GET", "/jobmanager/stdout", nil, noLogs},
	{"GET", "/jobmanager/logs/{filename}", nil, noLogs},
	{"GET", "/taskmanagers/{taskmanagerid}/log", nil, noLogs},
	{"GET", "/taskmanagers/{taskmanagerid}/stdout", nil, noLogs},
	{"GET", "/taskmanagers/{taskmanagerid}/logs/{filename}", nil, noLogs},
	{"GET", "/jobmanager/profiler", nil, "not in this release: /debug/goroutines shows what the process does"},
	{"GET", "/taskmanagers/{taskmanagerid}/profiler", nil, "not in this release: /debug/goroutines shows what the process does"},

	// Ours.
	{"GET", "/health/live", (*request).live, ""},
	{"GET", "/health/ready", (*request).readiness, ""},
	{"GET", "/debug/goroutines", (*request).goroutines, ""},
	{"GET", "/savepoint-files", (*request).snapshotFiles, ""},
	{"GET", "/savepoint-files/content", (*request).snapshotContent, ""},
	{"GET", "/savepoint-files/identity", (*request).snapshotIdentity, ""},
	{"POST", "/savepoint-checks", (*request).checkSavepoint, ""},
	{"PUT", "/savepoint-holds/{holdid}", (*request).hold, ""},
	{"DELETE", "/savepoint-holds/{holdid}", (*request).release, ""},
	{"PUT", "/savepoint-uploads/{uploadid}", (*request).beginUpload, ""},
	{"PATCH", "/savepoint-uploads/{uploadid}", (*request).uploadPiece, ""},
	{"POST", "/savepoint-uploads/{uploadid}", (*request).finishUpload, ""},
	{"DELETE", "/savepoint-uploads/{uploadid}", (*request).abortUpload, ""},
}
