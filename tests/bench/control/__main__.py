"""The control plane against its targets: `make bench-control`.

A real etcd, API server, controller manager and scheduler; the operator as a process with its own
rights; pods are played by a node that runs nothing. Every figure is taken from outside the
operator: arrivals in watches by one clock, requests in the API server's audit log, memory and
processor time from /proc.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.control.audit import duplicates
from bench.control.burst import burst
from bench.control.hung import SLOW, hung
from bench.control.latency import Latency, latency
from bench.control.lives import finished_status, lives
from bench.control.stage import Stage, stage
from bench.control.stored import fill, idle, restart, right_after
from bench.reporting import bench

Figures = dict[str, object]
Rows = Callable[[Stage, argparse.Namespace], tuple[Figures, list["Bound"]]]


@dataclass
class Bound:
    """A target: whether a figure keeps it."""

    what: str
    figure: float
    bound: float
    at_least: bool = False

    @property
    def kept(self) -> bool:
        """Whether it does."""
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        verdict = "held" if self.kept else "MISSED"
        return f"{verdict:6} {self.what:58} {self.figure:10.2f}  ({sign} {self.bound:g})"


def told(name: str, **figures: object) -> None:
    """Print a row."""
    shown = (f"{k} {v:.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items())
    print(f"{time.strftime('%H:%M:%S')} {name}: " + ", ".join(shown), flush=True)


def measure_bursts(options: argparse.Namespace) -> tuple[Figures, list[Bound]]:
    """Rounds of bursts, each on a control plane of its own."""
    rounds = []
    for _ in range(options.rounds):
        with stage() as on:
            on.start()
            on.ready()
            rounds.append(burst(on, options.runs))
            told("burst", **vars(rounds[-1]))
            on.stop()
            assert not duplicates(on.account())
    median = statistics.median
    found: Figures = {
        "burst_runs_per_s": median(one.per_second for one in rounds),
        "raw_jobs_per_s": median(one.raw_per_second for one in rounds),
        "burst_ratio": median(one.per_second / one.raw_per_second for one in rounds),
        "burst_cpu_s": median(one.cpu_s for one in rounds),
    }
    least = median(one.per_second for one in rounds)
    return found, [Bound("burst, runs that get their first Job a second", least, 150, True)]


def measure_lives(on: Stage, options: argparse.Namespace) -> tuple[Figures, list[Bound]]:
    """Rows without many stored runs."""
    bounds: list[Bound] = []
    few = latency(on, options.latency_runs)
    told("latency at 1/s, nothing stored", is_=few)
    bounds += _latency_bounds(few, "nothing stored")
    some = lives(on, 100, options.answer_seconds)
    told("100 active runs", **vars(some))
    wide = lives(on, 4, options.answer_seconds, shards=64)
    told("runs of 64 shards", **vars(wide))
    many = lives(on, options.runs, options.crowd_seconds)
    told(f"{options.runs} active runs", **vars(many))
    beside = hung(on, options.latency_runs)
    told("beside slow and silent endpoints", **vars(beside))
    bounds += [
        Bound(f"of {options.runs} runs answered at once", many.at_once, options.runs, True),
        Bound("memory with 1,000 active runs, MiB", many.rss_mib, 140),
        Bound("writes beyond 15 and 2 a minute, 1 shard", max(some.over, many.over), 0),
        Bound("writes beyond 15 and 2 a minute, 64 shards", wide.over, 0),
        Bound("age of progress when told, 100 active runs, p95, s", some.lag_p95_s, 10),
        Bound("age of progress when told, 1,000 active runs, p95, s", many.lag_p95_s, 30),
        *_latency_bounds(beside.slow, "one silent and 100 slow endpoints"),
        Bound("readings of these that were given up", beside.timeouts, SLOW + 1, True),
        Bound("probes beside these are green", beside.healthy, 1, True),
    ]
    return {
        "p50_ms_empty": few.p50,
        "p95_ms_empty": few.p95,
        "p99_ms_empty": few.p99,
        "rss_mib_1000": many.rss_mib,
        "writes_per_run": max(some.writes, many.writes),
        "writes_per_run_64_shards": wide.writes,
        "lag_p95_s_100": some.lag_p95_s,
        "lag_p95_s_1000": many.lag_p95_s,
        "progress_gap_s_100": some.gap_s,
        "active_at_once": many.at_once,
        "hung_p50_ms": beside.slow.p50,
        "hung_p95_ms": beside.slow.p95,
        "quick_p50_ms": beside.quick.p50,
        "quick_p95_ms": beside.quick.p95,
    }, bounds


def measure_stored(on: Stage, options: argparse.Namespace) -> tuple[Figures, list[Bound]]:
    """Rows with many stored runs."""
    fill(on, options.stored, finished_status(on, on.plane.namespace("example")))
    restarts = [restart(on) for _ in range(options.rounds)]
    told("restart", seconds=restarts)
    after = right_after(on)
    told("a run applied right after it", seconds=after)
    full = latency(on, options.latency_runs)
    told(f"latency at 1/s, {options.stored} stored", is_=full)
    still = idle(on, options.idle_seconds)
    told("idle", **vars(still))
    both = lives(on, options.runs, options.crowd_seconds)
    told(f"{options.runs} active runs, {options.stored} stored", **vars(both))
    return {
        "p50_ms": full.p50,
        "p95_ms": full.p95,
        "p99_ms": full.p99,
        "rss_mib_10000": both.rss_mib,
        "restart_s": max(restarts),
        "right_after_restart_s": after,
        "idle_requests_per_min": still.per_minute,
        "idle_requests_per_min_without_lease": still.per_minute_without_lease,
        "idle_cpu_percent": still.cpu_percent,
        "idle_rss_mib": still.rss_mib,
    }, [
        *_latency_bounds(full, f"{options.stored} stored"),
        Bound("restart to a new run's Job, s", max(restarts), 5),
        Bound("idle, requests a minute", still.per_minute, 6),
        Bound("idle, per cent of a core", still.cpu_percent, 1),
        Bound("memory with 10,000 stored and 1,000 active, MiB", both.rss_mib, 300),
    ]


ROWS: dict[str, Rows] = {"lives": measure_lives, "stored": measure_stored}


def measure(rows: Rows, options: argparse.Namespace) -> tuple[Figures, list[Bound], int]:
    """Some rows on a control plane of their own; the duplicate Jobs among all that was made."""
    with stage() as on:
        on.start()
        on.ready()
        latency(on, 10)  # connections are opened, code is warm
        on.play("--seconds", "prepare=1", "score=1", "--jitter=0", "--requests=6000", "--serve")
        found, bounds = rows(on, options)
        on.stop()
        on.account()
        twice = duplicates(on.requests)
        for asked in twice:
            print("created twice:", *(f"\n  {' '.join(map(str, request))}" for request in asked))
        return found, bounds, len(twice)


def _latency_bounds(found: Latency, where: str) -> list[Bound]:
    return [
        Bound(f"run to Job, p50, {where}, ms", found.p50, 10),
        Bound(f"run to Job, p95, {where}, ms", found.p95, 25),
        Bound(f"run to Job, p99, {where}, ms", found.p99, 60),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, say which targets are held; 1 if one is missed."""
    parser = argparse.ArgumentParser(prog="make bench-control", description=__doc__)
    add = parser.add_argument
    add("--runs", type=int, default=1000, help="in a burst, and active at once (1000)")
    add("--rounds", type=int, default=3, help="of bursts and restarts (3)")
    add("--latency-runs", type=int, default=100, help="one a second (100)")
    add("--answer-seconds", type=float, default=120, help="for which an active run answers (120)")
    add("--crowd-seconds", type=float, default=180, help="the same of a thousand at once (180)")
    add("--stored", type=int, default=10_000, help="runs that have ended (10000)")
    add("--idle-seconds", type=float, default=600, help="to watch it do nothing (600)")
    names = ["burst", *ROWS]
    add("--only", nargs="+", choices=names, default=names, help="some rows alone")
    options = parser.parse_args(arguments)
    # Nothing is left behind, though a shell may have started this in the background without SIGINT.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    found: Figures = {}
    bounds: list[Bound] = []
    twice = 0
    if "burst" in options.only:
        found, bounds = measure_bursts(options)
    for name, rows in ROWS.items():
        if name in options.only:
            more, further, again = measure(rows, options)
            found |= more
            bounds += further
            twice += again
    found["duplicates"] = twice
    bounds.append(Bound("duplicate Jobs", twice, 0))
    print()
    for bound in bounds:
        print(bound)
    bench("bench-control", **found)
    return 0 if all(bound.kept for bound in bounds) else 1


if __name__ == "__main__":
    sys.exit(main())
