"""Runs that are killed again and again at random moments of their lives: `make bench-kill`.

A real model answers easy-VQA, a real S3 server keeps the answers, and a process is killed and
started anew until all kills are spent. The moment is drawn from the process' whole life: imports,
building requests, loading, answering. In half of the lives the store fails too (it delays, answers
500 and 503, resets connections before and after it has done what it was asked). Half of the
SIGKILLs and every SIGTERM take the machine's disk away with the process, as the end of a pod does.

After each death the journal is read and compared with what it has to hold (`journal_audit`).
"""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bench.example import make_run
from bench.faults import MAX_DELAY_SECONDS, Fault, FaultProxy
from bench.journal_audit import Audit, Death
from bench.reporting import bench
from bench.s3_server import S3Server
from evalrun_api.lock import Lock
from evalrun_api.plan import RunPlan
from evalrun_api.reasons import ExitCode
from evalrun_runner import layout, local
from evalrun_runner.journal.writing import FLUSH_SECONDS
from evalrun_runner.stores import Store, open_store

Ending = Literal["kill", "term"]
FIRST_HORIZON_SECONDS = 600.0
ANSWERING_SECONDS = 8.0
"""How long a life goes on after its first answer, at most."""
STORE_SECONDS = 2.0
FAILING_STORE_SECONDS = 20.0
"""What storing a segment may take; while the store fails, with five attempts and their pauses."""
GRACE_SECONDS = 60.0


@dataclass
class Figures:
    """What all deaths cost."""

    kills: int = 0
    terms: int = 0
    lost: int = 0
    recomputed: list[int] = field(default_factory=list)
    recomputed_by_term: int = 0
    resume: list[float] = field(default_factory=list)
    exits: list[float] = field(default_factory=list)
    died_at: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    failing: int = 0
    unused: int = 0
    doubled: int = 0
    changed: int = 0
    runs: int = 0
    broken: list[str] = field(default_factory=list)

    def hold(self, true: bool, what: str) -> None:
        """Note a bound that is broken."""
        if not true:
            self.broken.append(what)
            print(f"  BROKEN: {what}", flush=True)


@dataclass(frozen=True)
class Life:
    """How one process is to die."""

    ending: Ending
    after: float
    from_answer: bool
    failing: bool
    lose_spool: bool


@dataclass
class Seen:
    """What was seen of a process from outside."""

    seconds: float = 0.0
    first_answer: float | None = None
    computed: int = 0
    reused: int = 0
    activity: str = "starting"

    @property
    def rate(self) -> float:
        """Answers a second, over more than a second."""
        if self.first_answer is None:
            return 0.0
        return self.computed / max(self.seconds - self.first_answer, 1.0)


class Bench:
    """One store, one run after another, one life after another."""

    def __init__(self, folder: Path, server: S3Server, seed: int, limit: int | None) -> None:
        self.random = random.Random(seed)
        self.figures = Figures()
        self._folder = folder
        benchmark = {"benchmarkRef": {"name": "easy-vqa"}}
        self._benchmarks = [{**benchmark, "limit": limit} if limit else benchmark]
        self._server = server
        self._proxy = FaultProxy(server.endpoint, seed)
        self._store = open_store(server.plan())
        self._horizon = FIRST_HORIZON_SECONDS
        self._rates: list[float] = [200.0]
        self._begin_run()

    def draw(self, ending: Ending) -> Life:
        """A life, and when it ends: half of them at any moment since the start, half of them at
        any moment since the first answer. The very first shows how long a life takes here.
        """
        from_answer = self.random.random() < 0.5 or not self.figures.resume
        horizon = self._horizon * (1 if self._audit else 2)  # one begins with prepare
        return Life(
            ending,
            self.random.uniform(0.0, ANSWERING_SECONDS if from_answer else horizon),
            from_answer=from_answer,
            failing=self.random.random() < 0.5,
            lose_spool=ending == "term" or self.random.random() < 0.5,
        )

    def live(self, life: Life) -> None:
        """Start the process, end it, and audit the journal."""
        figures, known = self.figures, len(self._audit.known) if self._audit else 0
        self._proxy.faulty = life.failing
        step = local.start(self._run, "answer" if self._audit else "all")
        try:
            seen = _watch(step, life, at_most=3 * self._horizon)
        except BaseException:  # the bench itself is ended, and leaves nothing behind
            step.kill()
            step.wait(10)
            raise
        code = step.poll()
        if code is None:
            begun = time.monotonic()
            (step.kill if life.ending == "kill" else step.stop)()
            code = step.wait(GRACE_SECONDS + 30)
            figures.exits += [time.monotonic() - begun] if life.ending == "term" else []
            self._count(life, seen, code)
        else:
            figures.ended[_name(code)] += 1
        self._proxy.settle()
        self._proxy.faulty = False
        self._look(life, seen, known)
        if code == ExitCode.DONE:
            self._end_run()
            self._begin_run()

    def finish(self) -> None:
        """Let the last run answer and score what is left, with a store that works."""
        known = len(self._audit.known) if self._audit else 0
        step = local.start(self._run, "all")
        code = step.wait(600)
        outcome = step.outcome()
        ended = outcome.outcome if outcome else "nothing"
        self.figures.hold(code == 0 and ended == "Succeeded", f"the last run ended with {code}")
        if outcome is not None:
            self.figures.hold(
                outcome.reused == known,
                f"the last run reused {outcome.reused} of {known} answers",
            )
            print(f"scored: {[(s.metric, s.value) for s in outcome.scores]}", flush=True)
        self._look(Life("kill", 0.0, from_answer=False, failing=False, lose_spool=False), Seen(), 0)
        self._end_run()
        self._proxy.close()

    @property
    def faults(self) -> dict[Fault, int]:
        """How many requests met which fault."""
        return dict(self._proxy.seen)

    def _begin_run(self) -> None:
        self._audit: Audit | None = None
        store = self._server.plan(self._proxy.endpoint)
        self._run = make_run(self._folder, store, benchmarks=self._benchmarks)
        self.figures.runs += 1

    def _end_run(self) -> None:
        figures, audit = self.figures, self._audit
        if audit is None:
            return
        figures.doubled += audit.doubled
        figures.changed += len(audit.changed())
        total = _lock(self._store, self._run.plan)
        wanted = total.requests_total if total else 0
        figures.hold(len(audit.stored) == wanted, f"{len(audit.stored)} of {wanted} answers stored")

    def _count(self, life: Life, seen: Seen, code: int | None) -> None:
        figures = self.figures
        figures.kills += life.ending == "kill"
        figures.terms += life.ending == "term"
        figures.failing += life.failing
        figures.died_at[seen.activity.split(" of ")[0].split(" easy")[0]] += 1
        figures.ended[f"{life.ending}: {_name(code)}"] += 1
        if seen.first_answer is not None:
            figures.resume.append(seen.first_answer)
            self._rates.append(seen.rate)
            self._horizon = statistics.median(figures.resume) + ANSWERING_SECONDS

    def _look(self, life: Life, seen: Seen, known: int) -> None:
        """Audit the journal and compare with the bounds."""
        figures = self.figures
        if self._audit is None:
            lock = _lock(self._store, self._run.plan)
            if lock is None:  # it died before prepare had ended, so nothing was answered
                self._tell(life, seen, Death(0, 0, 0))
                return
            prefix = layout.segments(self._run.plan.run.namespace, lock.answers)
            self._audit = Audit(self._store, prefix, self._run.spool)
        death = self._audit.after_death(seen.computed, lose_spool=life.lose_spool)
        in_hand = (
            self._run.plan.groups[0].chunk_size if seen.activity.startswith("answering") else 0
        )
        if life.ending == "term":
            in_hand = 0
            figures.recomputed_by_term += death.recomputed
            figures.hold(death.recomputed == 0, f"SIGTERM lost {death.recomputed} answers")
        seconds = FLUSH_SECONDS + (FAILING_STORE_SECONDS if life.failing else STORE_SECONDS)
        bound = max(self._rates) * seconds
        figures.hold(
            death.recomputed <= bound,
            f"{death.recomputed} finished answers lost with the disk, allowed are {bound:.0f}",
        )
        figures.recomputed.append(death.recomputed + in_hand)
        figures.lost += death.lost
        figures.hold(death.lost == 0, f"{death.lost} journaled answers lost")
        if seen.computed:
            figures.unused += known - seen.reused
            figures.hold(seen.reused == known, f"{seen.reused} of {known} stored answers reused")
        self._tell(life, seen, death)

    def _tell(self, life: Life, seen: Seen, death: Death) -> None:
        figures = self.figures
        print(
            f"{figures.kills:4} kills {figures.terms:3} terms  {life.ending} after "
            f"{seen.seconds:5.1f} s at {seen.activity[:30]!r:33} computed {seen.computed:5} "
            f"journal +{death.gained:5} lost {death.lost} recomputed {death.recomputed:4}"
            f"{' failing store' if life.failing else ''}{' disk gone' if life.lose_spool else ''}",
            flush=True,
        )


def _watch(step: local.RunningStep, life: Life, at_most: float) -> Seen:
    """Look at a process until its time has come, or it ends."""
    seen, begun = Seen(), time.monotonic()
    while (now := time.monotonic() - begun) < at_most and step.poll() is None:
        since = seen.first_answer if life.from_answer else 0.0
        if since is not None and now - since >= life.after:
            break
        progress = step.progress()
        if progress is not None:
            seen.activity, seen.computed = progress.activity or "", progress.computed
            seen.reused = max(seen.reused, progress.reused)
            if progress.computed and seen.first_answer is None:
                seen.first_answer = now
        time.sleep(0.05)
    seen.seconds = time.monotonic() - begun
    return seen


def _lock(store: Store, plan: RunPlan) -> Lock | None:
    raw = store.get(layout.lock_of_run(plan.run))
    return Lock.model_validate_json(raw) if raw else None


def _name(code: int | None) -> str:
    if code is None:
        return "still alive"
    if code < 0:
        return f"signal {-code}"
    return next((member.name for member in ExitCode if member == code), str(code))


def percentile(values: list[float], share: float) -> float | None:
    """The smallest value that so large a share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else None


def main() -> int:
    """Spend all kills, report; 1 when a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--terms", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=None, help="documents of a run; all")
    parser.add_argument("--minutes", type=float, default=90.0, help="then no more are begun")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left behind
    with tempfile.TemporaryDirectory() as name, S3Server(Path(name)) as server:
        killing = Bench(Path(name), server, options.seed, options.limit)
        figures = killing.figures
        begun = time.monotonic()
        while figures.kills < options.kills or figures.terms < options.terms:
            if time.monotonic() - begun > 60 * options.minutes:
                print(f"{options.minutes:g} minutes are over", flush=True)
                break
            left: list[Ending] = ["kill"] * (options.kills - figures.kills)
            left += ["term"] * (options.terms - figures.terms)
            killing.live(killing.draw(killing.random.choice(left)))
        killing.finish()
        figures.hold(figures.doubled == 0, f"{figures.doubled} stored answers were computed again")
        figures.hold(figures.changed == 0, f"{figures.changed} objects were changed or deleted")
        bench(
            "bench-kill",
            seed=options.seed,
            sigkills=figures.kills,
            sigterms=figures.terms,
            lost_answers=figures.lost,
            recomputed_max=max(figures.recomputed, default=0),
            recomputed_total=sum(figures.recomputed),
            recomputed_by_term=figures.recomputed_by_term,
            stored_computed_again=figures.doubled + figures.unused,
            objects_changed=figures.changed,
            resume_s_p50=percentile(figures.resume, 0.5),
            resume_s_p95=percentile(figures.resume, 0.95),
            term_exit_s_p95=percentile(figures.exits, 0.95),
            failing_store_lives=figures.failing,
            max_delay_s=MAX_DELAY_SECONDS,
            store_requests=killing.faults,
            died_at=dict(figures.died_at),
            ended=dict(figures.ended),
            runs=figures.runs,
            seconds=time.monotonic() - begun,
            broken=figures.broken,
        )
    return 1 if figures.broken else 0


if __name__ == "__main__":
    sys.exit(main())
