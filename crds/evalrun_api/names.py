"""Names by which the parts find each other in a cluster: labels, annotations, ports."""

from __future__ import annotations

from typing import Final

from evalrun_api import API_GROUP

GROUP: Final = API_GROUP
VERSION: Final = "v1alpha1"

RUN_LABEL: Final = "lmms-eval.io/run"
"""On a run's Jobs and pods: its name. The operator watches only what carries it."""
RUN_UID_LABEL: Final = "lmms-eval.io/run-uid"
"""On a run's Jobs and pods: its uid, since a name may be used again."""
STEP_LABEL: Final = "lmms-eval.io/step"
"""On a run's Jobs and pods: prepare, answer or score."""
ONLINE_LABEL: Final = "lmms-eval.io/online"
"""On the pods of a run whose task code may reach the network, for network policies: true."""
PLAN_ANNOTATION: Final = "lmms-eval.io/plan"
"""On a run's pods: the RunPlan, which they read through a downward-API file."""
ACCELERATORS_ANNOTATION: Final = "lmms-eval.io/accelerators"
"""On a run's pods: how many accelerators each holds, so that no pod's spec has to be kept."""
PLAN_DIGEST_ANNOTATION: Final = "lmms-eval.io/plan-digest"
"""On a run's Jobs: sha256 of the snapshot that they were made from."""
EXECUTION_ANNOTATION: Final = "lmms-eval.io/execution-digest"
"""On a run's Jobs: sha256 of the spec's fields that may change while the run is suspended."""

QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"
"""On Jobs that wait for Kueue: the LocalQueue. Kueue reads it, and may itself have set it."""
QUEUE_PRIORITY_LABEL: Final = "kueue.x-k8s.io/priority-class"
"""On the same Jobs: a WorkloadPriorityClass."""

CONTAINER: Final = "runner"
RUNNER_PATH: Final = "/opt/evalrun/bin/evalrun-runner"
"""Where an image has its runner. Not left to the image's entry point and PATH, which a run's
environment could lead elsewhere."""
HTTP_PORT: Final = 8080
"""Of a runner's /progress and /metrics."""
FIELD_MANAGER: Final = "lmms-eval-operator"
"""Who wrote a field, in managedFields, and who reports an Event."""
