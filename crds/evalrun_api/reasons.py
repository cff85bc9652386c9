"""Why a step or a run ended: one CamelCase reason, its exit code, its meaning and its remedy.

The exit codes are the contract between the runner's container and the Job's podFailurePolicy. The
troubleshooting table in the docs is generated from this file, so no reason goes without a remedy.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """How the runner's process ends. 0 means that this step's output is durably written."""

    DONE = 0
    INTERNAL = 1
    """A defect, or anything without a class of its own: counts against the retry budget."""
    INVALID = 10
    """The plan, model, benchmark or data are wrong: trying again cannot help."""
    DENIED = 11
    """Credentials or permissions are wrong: trying again cannot help."""
    UNTRUSTED = 12
    """The answers do not support a score: trying again cannot help."""
    CORRUPT = 13
    """Stored data are damaged: a person has to decide."""
    STORE = 20
    """The store, the hub or a server failed: worth another try."""
    RESOURCES = 21
    """Memory or disk ran out: worth another try, perhaps elsewhere."""
    STOPPED = 30
    """Asked to stop; every finished answer is stored. Counts against nothing."""


PERMANENT = frozenset({ExitCode.INVALID, ExitCode.DENIED, ExitCode.UNTRUSTED, ExitCode.CORRUPT})
"""Exit codes on which a Job fails at once."""


@dataclass(frozen=True)
class Reason:
    """A cause of an outcome.

    name: CamelCase, as it stands in conditions and termination messages.
    exit_code: with which the runner ends for it.
    meaning: what happened, for a person.
    remedy: what that person can do.
    """

    name: str
    exit_code: ExitCode
    meaning: str
    remedy: str


_ALL: dict[str, Reason] = {}


def _reason(name: str, exit_code: ExitCode, meaning: str, remedy: str) -> Reason:
    reason = Reason(name, exit_code, meaning, remedy)
    _ALL[name] = reason
    return reason


COMPLETED = _reason(
    "Completed", ExitCode.DONE, "The step's output is durably written.", "Nothing to do."
)
STOPPED = _reason(
    "Stopped",
    ExitCode.STOPPED,
    "The process was asked to stop (SIGTERM, Ctrl-C); every finished answer is stored.",
    "Run it again: it goes on where it stopped.",
)
INTERNAL_ERROR = _reason(
    "InternalError",
    ExitCode.INTERNAL,
    "Something failed that the runner has no name for.",
    "Read the end of the log; if it shows a fault of the runner, report it with the log.",
)
INVALID_SPEC = _reason(
    "InvalidSpec",
    ExitCode.INVALID,
    "The manifest or the plan holds a value that cannot be right.",
    "Correct the field that the message names.",
)
UNKNOWN_BENCHMARK = _reason(
    "UnknownBenchmark",
    ExitCode.INVALID,
    "No task, group or tag has this name in the installed lmms-eval.",
    "Use one of the near names in the message, or define it as a Benchmark.",
)
UNKNOWN_BACKEND = _reason(
    "UnknownBackend",
    ExitCode.INVALID,
    "The installed lmms-eval has no model of this name.",
    "Use one of the near names in the message.",
)
BACKEND_UNUSABLE = _reason(
    "BackendUnusable",
    ExitCode.INVALID,
    "The backend exists, but its module cannot be imported or refuses its arguments.",
    "Install what the message misses, or correct model.args.",
)
BENCHMARK_UNUSABLE = _reason(
    "BenchmarkUnusable",
    ExitCode.INVALID,
    "The benchmark's task files are wrong, or its requests cannot be built.",
    "Correct the task file or the setting that the message names.",
)
DATASET_UNAVAILABLE = _reason(
    "DatasetUnavailable",
    ExitCode.INVALID,
    "The documents of a benchmark cannot be loaded.",
    "Check the dataset's path or repository, and that it is reachable or in the cache.",
)
MODEL_NOT_FOUND = _reason(
    "ModelNotFound",
    ExitCode.INVALID,
    "The weights are not where model.source says.",
    "Check the claim and path, or the repository and revision.",
)
SOURCE_UNAVAILABLE = _reason(
    "SourceUnavailable",
    ExitCode.STORE,
    "The hub that holds weights or documents cannot be reached, or keeps failing.",
    "Try again; or fill the cache (HF_HOME) and set cache.offline: true.",
)
MODEL_LOAD_FAILED = _reason(
    "ModelLoadFailed",
    ExitCode.INVALID,
    "The backend could not load the weights.",
    "Check that the weights fit the backend, and model.args.",
)
UNSUPPORTED_REQUEST = _reason(
    "UnsupportedRequest",
    ExitCode.INVALID,
    "The benchmark asks the model in a way that this release does not journal.",
    "Leave the benchmark out, or run it with plain lmms-eval.",
)
LOCK_MISMATCH = _reason(
    "LockMismatch",
    ExitCode.INVALID,
    "What this step finds differs from what prepare locked: model, data or prompts have changed.",
    "Apply the run again under a new name, so that prepare locks what is there now.",
)
CREDENTIALS_REFUSED = _reason(
    "CredentialsRefused",
    ExitCode.DENIED,
    "The store, the judge, or the cluster, does not know the credentials.",
    "Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (in a cluster: the Secret); for a judge, "
    "the key in evaluation.judge.secret; for a cluster, the credentials of the kubeconfig.",
)
ACCESS_DENIED = _reason(
    "AccessDenied",
    ExitCode.DENIED,
    "The store, or the cluster, knows the credentials, and they may not do this.",
    "Grant what the message names: read, write and list beneath the prefix; in a cluster, the "
    "verb.",
)
BUCKET_NOT_FOUND = _reason(
    "BucketNotFound",
    ExitCode.DENIED,
    "The bucket or folder of the store does not exist.",
    "Create it, or correct results.s3.uri.",
)
STORE_UNAVAILABLE = _reason(
    "StoreUnavailable",
    ExitCode.STORE,
    "The store cannot be reached, or keeps failing.",
    "Check results.s3.endpoint and the service; finished answers wait in the local spool.",
)
DISK_FULL = _reason(
    "DiskFull",
    ExitCode.RESOURCES,
    "The disk of the store or of the work folder is full.",
    "Free some space, or choose another folder; then run it again.",
)
OUT_OF_MEMORY = _reason(
    "OutOfMemory",
    ExitCode.RESOURCES,
    "Memory ran out.",
    "Give the pod more memory, use a smaller batch, or more accelerators.",
)
CORRUPT_JOURNAL = _reason(
    "CorruptJournal",
    ExitCode.CORRUPT,
    "A journal segment in the store is damaged, or was written by another release.",
    "Move the object that the message names away; only its answers are computed again.",
)
CORRUPT_STORE = _reason(
    "CorruptStore",
    ExitCode.CORRUPT,
    "A document in the store (lock, plan or manifest) cannot be read.",
    "Move the object that the message names away, then run again.",
)
MISSING_ANSWERS = _reason(
    "MissingAnswers",
    ExitCode.INVALID,
    "Not every request has an answer in the journal, so nothing can be scored.",
    "Run the answer step to its end, then score again.",
)
BACKEND_FAILED = _reason(
    "BackendFailed",
    ExitCode.INTERNAL,
    "The backend failed on many requests in a row; the message gives its own words.",
    "Read the log for its stack; try a smaller batch, other model.args, or another backend.",
)
WRONG_ANSWER_COUNT = _reason(
    "WrongAnswerCount",
    ExitCode.UNTRUSTED,
    "The backend returned another number of answers than it was asked for.",
    "Use another backend or another batch size; report it to lmms-eval.",
)
INVALID_ANSWERS = _reason(
    "InvalidAnswers",
    ExitCode.UNTRUSTED,
    "More answers are empty or errors than integrity.maxInvalidFraction allows.",
    "Read the backend's errors in the log (backends swallow exceptions and answer ''), then run it "
    "again: failed answers are asked once more.",
)
NO_RESULTS = _reason(
    "NoResults",
    ExitCode.UNTRUSTED,
    "lmms-eval ended without a score for a task.",
    "Read the log; the task's scorer is the place to look.",
)

STALLED = _reason(
    "Stalled",
    ExitCode.INTERNAL,
    "No request was finished within stallSeconds, and starting the worker anew did not help.",
    "Read the stacks in the log; set stallSeconds higher if the model is only slow.",
)
WORKER_FAILED = _reason(
    "WorkerFailed",
    ExitCode.INTERNAL,
    "A process that answers died more often than it may be started anew.",
    "Read the end of the log: a crash of the backend or of its driver leaves its stack there.",
)
JUDGE_UNAVAILABLE = _reason(
    "JudgeUnavailable",
    ExitCode.STORE,
    "The judge cannot be reached, or keeps failing; verdicts that it gave are stored.",
    "Check evaluation.judge.endpoint, its model and its key, then run it again.",
)
JUDGE_REFUSED = _reason(
    "JudgeRefused",
    ExitCode.INVALID,
    "The judge refuses a request, or a benchmark asks for what no judge is recorded for.",
    "Check evaluation.judge.endpoint and model, and read the server's own words in the message.",
)
JUDGE_BUDGET_EXCEEDED = _reason(
    "JudgeBudgetExceeded",
    ExitCode.INVALID,
    "Judging would take more than evaluation.judge.budget allows.",
    "Raise the budget; verdicts that were given are kept and cost nothing again.",
)

# What the operator finds, without a word from the runner. The exit code is the class.
SECRET_NOT_FOUND = _reason(
    "SecretNotFound",
    ExitCode.DENIED,
    "A Secret that the pods need, or a key in it, is not in the run's namespace.",
    "Create the Secret with the key that the message names, then apply the run again.",
)
IMAGE_PULL_FAILED = _reason(
    "ImagePullFailed",
    ExitCode.INVALID,
    "The node cannot pull the image of a pod.",
    "Check the image's name and tag, the registry, and imagePullSecrets.",
)
CONTAINER_START_FAILED = _reason(
    "ContainerStartFailed",
    ExitCode.INVALID,
    "The container cannot be made or started: the image is not a runner, or the pod's settings do "
    "not suit it.",
    "Use an image that was built from runner-image/Dockerfile, and check the pod's settings.",
)
UNSCHEDULABLE = _reason(
    "Unschedulable",
    ExitCode.RESOURCES,
    "No node can take a pod: resources, selectors, taints or volumes do not fit.",
    "Ask for less, correct the selectors or claims, or add nodes; startDeadlineSeconds says how "
    "long to wait for one.",
)
START_DEADLINE_EXCEEDED = _reason(
    "StartDeadlineExceeded",
    ExitCode.RESOURCES,
    "A pod did not start within startDeadlineSeconds, and the node does not say why.",
    "Read the pod's events (kubectl describe pod): volumes that cannot be mounted are the usual "
    "cause.",
)
JOB_NOT_TAKEN_UP = _reason(
    "JobNotTakenUp",
    ExitCode.RESOURCES,
    "The cluster's Job controller does not take up a Job of the run. That is said after some "
    "minutes, and startDeadlineSeconds later the run is given up.",
    "See whether kube-controller-manager is at work, and whether it is busy with other Jobs.",
)
DEADLINE_EXCEEDED = _reason(
    "DeadlineExceeded",
    ExitCode.RESOURCES,
    "The run worked longer than activeDeadlineSeconds.",
    "Apply it again with a longer deadline, or more shards: finished answers are reused.",
)
DISRUPTED = _reason(
    "Disrupted",
    ExitCode.RESOURCES,
    "Pods were preempted, evicted or drained more often than the operator's configuration allows.",
    "Use a higher priority class or quieter nodes, then apply the run again: finished answers are "
    "reused.",
)
POD_LOST = _reason(
    "PodLost",
    ExitCode.INTERNAL,
    "Pods failed and left no word of their own: killed with their node, or deleted by force.",
    "Look at the nodes, then apply the run again: finished answers are reused.",
)
NODE_LOST = _reason(
    "NodeLost",
    ExitCode.INTERNAL,
    "A pod was told to end and did not, long after its time for that: its node is most likely "
    "dead or cut off.",
    "Look at the node. If it is gone for good, delete it, or delete the pod by force (kubectl "
    "delete pod --force); only then is the pod replaced. An administrator may have the operator "
    "do so (nodeLossSeconds).",
)
NAME_TAKEN = _reason(
    "NameTaken",
    ExitCode.INVALID,
    "An object that the run has to create exists already and belongs to something else.",
    "Rename or delete that object, or give the run another name.",
)
CREATE_REFUSED = _reason(
    "CreateRefused",
    ExitCode.INVALID,
    "The API server refuses an object that the run needs: a quota, an admission webhook (also one "
    "that is down), a value in the settings of its pods, or one of that name that is being deleted "
    "and does not go.",
    "Correct what the message names, or ask whoever set the quota, the webhook or the finalizer.",
)
DELETE_REFUSED = _reason(
    "DeleteRefused",
    ExitCode.DENIED,
    "The API server refuses to delete a Job of the run, so that its pods stay at work.",
    "Grant what the message names, or ask whoever set the webhook.",
)
BENCHMARK_NOT_FOUND = _reason(
    "BenchmarkNotFound",
    ExitCode.INVALID,
    "A Benchmark that the run refers to is not in its namespace.",
    "Apply the Benchmark, then the run again.",
)
KUEUE_NOT_INSTALLED = _reason(
    "KueueNotInstalled",
    ExitCode.INVALID,
    "The run names a queue, and the cluster has no Kueue, so nobody will ever admit its Job.",
    "Install Kueue (https://kueue.sigs.k8s.io), or set suspend: true, remove the queue's name from "
    "the spec, and set suspend: false.",
)
QUEUE_UNUSABLE = _reason(
    "QueueUnusable",
    ExitCode.INVALID,
    "Kueue cannot admit the Job from its queue: the LocalQueue or its ClusterQueue does not exist, "
    "is stopped or incomplete, or the Job's Workload was deactivated.",
    "Correct what the message names (kubectl get localqueues; kubectl describe workload); to use "
    "another queue, set suspend: true, change queueName, and set suspend: false.",
)
NOT_QUEUED = _reason(
    "NotQueued",
    ExitCode.INVALID,
    "Kueue is installed and has made no Workload of the Job: it does not run, does not look after "
    "Jobs in this namespace, or refuses this one.",
    "Read the Job's events (kubectl describe job), and check Kueue's configuration "
    "(integrations.frameworks has batch/job, managedJobsNamespaceSelector) and that it runs.",
)
JOB_SUSPENDED = _reason(
    "JobSuspended",
    ExitCode.INVALID,
    "Somebody else than the operator suspended a Job of the run that waits in no queue.",
    'Resume it (kubectl patch job NAME --type=merge -p \'{"spec":{"suspend":false}}\'). Where '
    "Kueue does that to all Jobs (manageJobsWithoutQueueName), set queueName and cpuQueueName.",
)
CAP_REACHED = _reason(
    "CapReached",
    ExitCode.RESOURCES,
    "As much is at work as the administrator allows, so the run waits for its turn; the message "
    "gives its place in line and what it waits for. The wait counts towards no deadline.",
    "Nothing to do: it begins by itself. Suspend or delete other runs of the namespace to let it "
    "begin sooner, or ask the administrator for higher caps.",
)

# What a command that speaks with a cluster finds.
CLUSTER_UNAVAILABLE = _reason(
    "ClusterUnavailable",
    ExitCode.STORE,
    "The cluster's API server cannot be reached, keeps failing, or does not know evaluation runs.",
    "Check the kubeconfig, its context and the network, and that the operator is installed.",
)
RUN_DELETED = _reason(
    "RunDeleted",
    ExitCode.INTERNAL,
    "The run was deleted while a command followed it.",
    "Apply its manifest again: finished answers are reused.",
)

REASONS: dict[str, Reason] = dict(_ALL)
"""Every reason by name."""
