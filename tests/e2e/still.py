"""Processes of the node held still or killed: those of a pod, or the kubelet.

A pod that is held still keeps its shard unfinished for as long as a test needs, and what is sent to
it meanwhile (SIGTERM) waits for it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster.processes import Identity


def pod_processes(uid: str) -> list[Identity]:
    """The processes of a pod, by the cgroup that the kubelet puts them in."""
    return _processes("cgroup", lambda text: f"pod{uid}" in text)


def hold(uid: str) -> None:
    """Hold a pod still. A process that starts another one meanwhile is seen the next time."""
    for _ in range(2):
        for process in pod_processes(uid):
            process.send(signal.SIGSTOP)


def let_go(uid: str) -> None:
    """Let a pod go on."""
    for process in pod_processes(uid):
        process.send(signal.SIGCONT)


def kill(uid: str) -> None:
    """Kill what a pod runs. Its sandbox, which is the kubelet's, goes on."""
    for process in pod_processes(uid):
        with suppress(OSError):
            if b"evalrun" in Path(f"/proc/{process.pid}/cmdline").read_bytes():
                process.send(signal.SIGKILL)


@contextmanager
def without_kubelet(node: str) -> Iterator[None]:
    """The node's kubelet held still; its containers go on."""
    (kubelet,) = _processes(
        "cmdline",
        lambda text: Path(text.split("\0")[0]).name == "kubelet" and f"={node}\0" in text,
    )
    kubelet.send(signal.SIGSTOP)
    try:
        yield
    finally:
        kubelet.send(signal.SIGCONT)


def _processes(file: str, wanted: Callable[[str], bool]) -> list[Identity]:
    found = []
    for path in Path("/proc").glob(f"[0-9]*/{file}"):
        with suppress(OSError):  # it has ended meanwhile
            if wanted(path.read_text(errors="replace")):
                found.append(Identity.of(int(path.parent.name)))
    return found
