"""Following one run: every change of it, over watches that end, expire or break."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, Fault, Refused
from evalrun_api.index import near
from evalrun_cli import invocation, run_state
from evalrun_cli.cluster import RUNS, Cluster
from evalrun_cli.refusals import ApiError
from evalrun_cli.run_state import Doc

TICK_SECONDS = 0.5
PATIENCE = 10
"""Failures one after another before it is given up: about two minutes."""
LONGEST_PAUSE = 20.0
CALM_SECONDS = 10.0
"""A watch that lasts so long is a good one, even if it is ended then."""


@dataclass(frozen=True)
class Changed:
    """The run as it is now."""

    run: Doc


@dataclass(frozen=True)
class Gone:
    """The run was deleted."""


@dataclass(frozen=True)
class Lost:
    """The API server cannot be asked for the moment."""

    error: EvalrunError


@dataclass(frozen=True)
class Ended:
    """Following ended by an error."""

    error: BaseException


@dataclass(frozen=True)
class Tick:
    """Nothing has changed for a moment."""


News = Changed | Gone | Lost | Ended | Tick


def get_run(cluster: Cluster, name: str) -> dict[str, Any]:
    """A run of the cluster's namespace. Raises `Refused` with near names where there is none."""
    try:
        return cluster.get(RUNS, cluster.namespace, name)
    except ApiError as error:
        if error.code != 404 or error.reason is reasons.CLUSTER_UNAVAILABLE:
            raise
        raise _no_such_run(cluster, name) from error


def _no_such_run(cluster: Cluster, name: str) -> EvalrunError:
    what = f"there is no run {name!r} in namespace {cluster.namespace} of {cluster.context}"
    try:
        known = [run_state.name_of(run) for run in cluster.list(RUNS, cluster.namespace)[0]]
        what += f"; {near(name, known)}" if known else "; the namespace holds no run"
    except ApiError:  # getting one may be allowed where listing all is not
        pass
    listing = invocation.here("list", "-A", *cluster.options)
    return Refused([Fault("NAME", what, f"{listing} lists the runs; -n chooses a namespace")])


@contextmanager
def followed(cluster: Cluster, run: Doc) -> Iterator[Iterator[News]]:
    """News of a run that was just read, a `Tick` at least twice a second; ends never by itself.

    The requests are made in a thread of their own, so that whoever reads can draw and be stopped.
    """
    told: queue.SimpleQueue[News] = queue.SimpleQueue()
    stopped = threading.Event()
    thread = threading.Thread(target=_pump, args=(cluster, run, told, stopped), daemon=True)
    thread.start()
    try:
        yield _news(told)
    finally:
        stopped.set()


def _news(told: queue.SimpleQueue[News]) -> Iterator[News]:
    while True:
        try:
            yield told.get(timeout=TICK_SECONDS)
        except queue.Empty:
            yield Tick()


def _pump(
    cluster: Cluster, run: Doc, told: queue.SimpleQueue[News], stopped: threading.Event
) -> None:
    try:
        _follow(cluster, run, told, stopped)
    except BaseException as error:  # noqa: BLE001 - it is raised again where the news are read
        told.put(Ended(error))


def _follow(
    cluster: Cluster, run: Doc, told: queue.SimpleQueue[News], stopped: threading.Event
) -> None:
    namespace, uid = run_state.namespace_of(run), run_state.uid_of(run)
    only = f"metadata.name={run_state.name_of(run)}"
    failures = hurries = 0
    while not stopped.is_set():
        begun = time.monotonic()
        try:
            # Listed again each time: a watch may have ended because its version is too old.
            found, version = cluster.list(RUNS, namespace, fieldSelector=only)
            if not found or run_state.uid_of(found[0]) != uid:
                told.put(Gone())
                return
            told.put(Changed(found[0]))
            failures = 0
            for event in cluster.watch(RUNS, namespace, version, fieldSelector=only):
                now = event.get("object")
                if event.get("type") == "ERROR" or not isinstance(now, dict) or stopped.is_set():
                    break
                if event.get("type") == "DELETED":
                    told.put(Gone())
                    return
                told.put(Changed(now))
        except ApiError as error:
            failures += 1
            if not error.passes or failures > PATIENCE:
                raise
            told.put(Lost(error))
        hurries = 0 if time.monotonic() - begun >= CALM_SECONDS else hurries + 1
        stopped.wait(pause(max(hurries, failures), LONGEST_PAUSE))


def pause(times: int, longest: float) -> float:
    """Seconds to wait before a server is asked again that ended early so many times in a row."""
    return min(0.5 * 2 ** min(times, 10), longest) if times else 0.0
