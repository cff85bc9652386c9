"""Events about a run, as `kubectl describe` shows them."""

from __future__ import annotations

import hashlib
from datetime import datetime

from evalrun_api.names import FIELD_MANAGER, GROUP, VERSION
from evalrun_operator.decisions import Doc, Event


def event_document(run: Doc, event: Event, now: datetime) -> Doc:
    """A core/v1 Event.

    Its name follows from the status that it accompanies, so posting it twice makes one; that of
    what is told once from its words alone, so that a wait that comes and goes makes one as well.
    """
    metadata = run["metadata"]
    status = "" if event.once else metadata["resourceVersion"]
    identity = (metadata["uid"], status, event.reason, event.message)
    digest = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:16]
    time = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{digest}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "EvaluationRun",
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
        "type": event.type,
        "reason": event.reason,
        "message": event.message.encode()[:1024].decode(errors="ignore"),
        "source": {"component": FIELD_MANAGER},
        "reportingComponent": FIELD_MANAGER,
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }
