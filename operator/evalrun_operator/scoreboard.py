"""The last trusted score of each model at each benchmark, for a dashboard of quality over time.

A run's own series end with it, and its score is known only then. So the newest score is kept by
what it is of, not by run, and of these no more than a fixed number, which namespaces share fairly.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from heapq import nsmallest
from typing import Final, NamedTuple

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from evalrun_operator.decisions import Doc

MAX_SCORES: Final = 500
MAX_LABEL: Final = 200
"""Characters. Names in scores are what a pod said, and a model's may be a long path."""


class Subject(NamedTuple):
    """What a score is of."""

    namespace: str
    model: str
    benchmark: str
    metric: str
    filter: str


class Scoreboard(Collector):
    """Scores of runs that have ended, in whatever order these are seen."""

    def __init__(self, limit: int = MAX_SCORES) -> None:
        self._limit = limit
        self._scores: dict[Subject, tuple[str, float]] = {}
        """When the run ended (of one format, so that texts compare as times do), and the score."""

    def put(self, run: Doc) -> None:
        """A run has ended. Scores that may not be trusted tell nothing of the model."""
        status = run.get("status") or {}
        ended = str(status.get("completionTime") or "")
        if not any(
            entry.get("type") == "Trusted" and entry.get("status") == "True"
            for entry in status.get("conditions") or ()
        ):
            return
        for score in status.get("scores") or ():
            value = _number(score.get("value"))
            if value is None:
                continue
            subject = Subject(
                *(
                    str(text or "")[:MAX_LABEL]
                    for text in (
                        run["metadata"]["namespace"],
                        status.get("model"),
                        score.get("benchmark"),
                        score.get("metric"),
                        score.get("filter") or "none",
                    )
                )
            )
            if ended >= self._scores.get(subject, ("", 0.0))[0]:
                self._scores[subject] = (ended, value)
        if len(self._scores) > 2 * self._limit:  # seldom, since it looks at all
            self._scores = dict(self._newest())

    def _newest(self) -> list[tuple[Subject, tuple[str, float]]]:
        """As many as there may be: of each namespace the newest, then of each the second newest…

        So none drives the others' out by running much.
        """
        taken: Counter[str] = Counter()
        places = []
        for entry in sorted(self._scores.items(), key=lambda entry: entry[1][0], reverse=True):
            namespace = entry[0].namespace
            places.append((taken[namespace], entry))
            taken[namespace] += 1
        return [entry for _, entry in nsmallest(self._limit, places, key=lambda place: place[0])]

    def describe(self) -> Iterator[Metric]:
        """Nothing: what there is depends on the runs."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Those that are kept."""
        family = GaugeMetricFamily(
            "evalrun_score",
            f"Last trusted score of a model at a benchmark; of all namespaces {self._limit}.",
            labels=Subject._fields,
        )
        for subject, (_, value) in self._newest():
            family.add_metric(subject, value)
        yield family


def _number(text: object) -> float | None:
    try:
        value = float(str(text))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
