"""What is known of an active run beside its objects: lost with the process, and found anew."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from evalrun_api.benchmark import Benchmark
from evalrun_api.plan import RunPlan
from evalrun_operator.decisions import Doc, Ledger, Snapshot

MANY_FAILURES = 5
"""Tries, within some seconds: fewer are a hiccup that nobody has to know of."""
BENCHMARK_AGE = 30.0
"""Seconds after which a Benchmark, or its absence, is looked up again."""


@dataclass(frozen=True, slots=True)
class KeptSnapshot:
    """A snapshot at a sixth of its memory: thousands are kept, and looked at now and then."""

    plan: bytes
    files: Mapping[str, str]
    digest: str

    @classmethod
    def of(cls, snapshot: Snapshot) -> KeptSnapshot:
        """Its plan as a ConfigMap holds it."""
        text = json.dumps(snapshot.plan.document()).encode()
        return cls(text, snapshot.files, snapshot.digest)

    def unpack(self) -> Snapshot:
        """The snapshot."""
        return Snapshot(_plan(self.plan), self.files, self.digest)


@lru_cache(maxsize=64)
def _plan(text: bytes) -> RunPlan:
    """A run is looked at several times while its step begins."""
    return RunPlan.model_validate_json(text)


@dataclass(slots=True)
class Notes:
    """Notes on one run; the fields are those of `Observed`.

    benchmarks: with the time of the look. failures: tries in a row that the API server failed at,
    by kind/name. doubts: `gonePods` of statuses of which it is not known whether they were written,
    each with what it contains of `gone`.
    """

    snapshot: KeptSnapshot | None = None
    snapshot_absent: bool = False
    benchmarks: dict[str, tuple[Benchmark | None, float]] = field(default_factory=dict)
    conflicts: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    gone: Ledger = field(default_factory=Ledger)
    doubts: list[tuple[Doc | None, Ledger]] = field(default_factory=list)

    def recent_benchmarks(self, now: float) -> dict[str, Benchmark | None]:
        """The Benchmarks that were looked up lately."""
        return {
            name: found
            for name, (found, since) in self.benchmarks.items()
            if now - since < BENCHMARK_AGE
        }

    def refuse(self, name: str, text: str | None) -> None:
        """The API server refuses this; None: it no longer does."""
        if text is not None:
            self.refused[name] = text
        else:
            self.refused.pop(name, None)
            self.failures.pop(name, None)

    def fail(self, name: str, text: str) -> None:
        """The API server failed at this: after some tries in a row that is as good as refused."""
        self.failures[name] = self.failures.get(name, 0) + 1
        if self.failures[name] >= MANY_FAILURES:
            self.refused[name] = text

    def settle(self, contained: Ledger) -> None:
        """A status that contains this was written."""
        self.gone = self.gone.minus(contained)
        self.doubts.clear()

    def doubt(self, status: Doc, contained: Ledger) -> None:
        """A status that contains this may have been written. It is tried again, for hours if need
        be, and mostly the same: it is remembered once, and of it what will tell.
        """
        entry = (status.get("gonePods"), contained)
        if entry not in self.doubts:
            self.doubts.append(entry)

    def resolve(self, status: Doc) -> None:
        """A newer version of the run is known: it tells which doubtful status was written, if any.

        Only the operator writes statuses, each on top of the version that it was made from. So the
        first newer version holds the doubtful one, or it was never written.
        """
        for doubtful, contained in self.doubts:
            if doubtful == status.get("gonePods"):
                self.gone = self.gone.minus(contained)
                break
        self.doubts.clear()
