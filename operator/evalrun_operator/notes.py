"""What is known of an active run beside its objects: lost with the process, and found anew."""

from __future__ import annotations

from dataclasses import dataclass, field

from evalrun_api.benchmark import Benchmark
from evalrun_operator.decisions import Doc, Ledger, Snapshot

BENCHMARK_AGE = 30.0
"""Seconds after which a Benchmark, or its absence, is looked up again."""


@dataclass(slots=True)
class Notes:
    """Notes on one run; the fields are those of `Observed`.

    benchmarks: with the time of the look. doubts: statuses of which it is not known whether they
    were written, each with what it contains of `gone`.
    """

    snapshot: Snapshot | None = None
    snapshot_absent: bool = False
    benchmarks: dict[str, tuple[Benchmark | None, float]] = field(default_factory=dict)
    conflicts: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    gone: Ledger = field(default_factory=Ledger)
    doubts: list[tuple[Doc, Ledger]] = field(default_factory=list)

    def recent_benchmarks(self, now: float) -> dict[str, Benchmark | None]:
        """The Benchmarks that were looked up lately."""
        return {
            name: found
            for name, (found, since) in self.benchmarks.items()
            if now - since < BENCHMARK_AGE
        }

    def settle(self, contained: Ledger) -> None:
        """A status that contains this was written."""
        self.gone = self.gone.minus(contained)
        self.doubts.clear()

    def resolve(self, status: Doc) -> None:
        """A newer version of the run is known: it tells which doubtful status was written, if any.

        Only the operator writes statuses, each on top of the version that it was made from. So the
        first newer version holds the doubtful one, or it was never written.
        """
        for doubtful, contained in self.doubts:
            if doubtful.get("gonePods") == status.get("gonePods"):
                self.gone = self.gone.minus(contained)
                break
        self.doubts.clear()
