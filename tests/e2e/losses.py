"""Ways for a run to lose a pod, and waiting for it to be lost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from answers import ended
from space import Space

URGENT = "e2e-urgent"
FILL_MEMORY = ("sh", "-c", "head -c 4G /dev/zero > /dev/shm/filling")
"""More than the pod may have; its processes are killed, the largest first."""

Doc = dict[str, Any]


def until(what: str, true: Callable[[], Any], seconds: float = 60, pause: float = 0.3) -> Any:
    """Wait until something holds; it."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(pause)
    return found


def uid(pod: Doc) -> str:
    """The uid of a pod, by which the journal knows it."""
    return str(pod["metadata"]["uid"])


def name_of(pod: Doc) -> str:
    """The name of a pod."""
    return str(pod["metadata"]["name"])


def evict(space: Space, pod: Doc) -> None:
    """Evict a pod, as a drain of its node does."""
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name_of(pod), "namespace": space.namespace},
    }
    path = f"/api/v1/namespaces/{space.namespace}/pods/{name_of(pod)}/eviction"
    space.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(eviction))


def exhaust(space: Space, pod: Doc) -> None:
    """Take more memory than a pod may have, until the kernel has killed it."""
    space.kubectl("exec", name_of(pod), "--", *FILL_MEMORY, check=False)
    until(
        "one is out of memory",
        lambda: any(
            uid(other) == uid(pod) and ended(other).get("reason") == "OOMKilled"
            for other in space.pods(pod["metadata"]["labels"]["lmms-eval.io/run"], "answer")
        ),
    )


@contextmanager
def urgency(space: Space) -> Iterator[None]:
    """A priority class above that of every run."""
    document = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": URGENT},
        "value": 1000,
    }
    space.kubectl("apply", "-f", "-", input=json.dumps(document))
    try:
        yield
    finally:
        space.kubectl("delete", "priorityclass", URGENT)


def preempt(space: Space) -> None:
    """Have a pod come for a moment that is more urgent, and takes one of the GPUs."""
    container = {
        "name": "urgent",
        "image": "lmms-eval.io/runner:dev",
        "command": ["/bin/true"],
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "urgent"},
        "spec": {
            "priorityClassName": URGENT,
            "restartPolicy": "Never",
            "containers": [container],
        },
    }
    space.kubectl("apply", "-f", "-", input=json.dumps(pod))
