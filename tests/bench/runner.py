"""How much time the runner takes beside plain lmms-eval: `make bench-runner`.

Wall time of whole processes, in turns on one machine: the same requests by plain
`python -m lmms_eval` and by ours; large photographs with and without decoding ahead; then the
workers and the journal, by benchmarks of their own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.example import EXAMPLE, make_run
from bench.media import photograph_run, write_photographs
from bench.pairs import Timed, interleaved, ratios, run_ours, run_plain, same_scores
from bench.reporting import bench
from evalrun_api.plan import StorePlan
from evalrun_runner.answering.prefetch import MIB_VARIABLE

BOUNDS = {
    "wall_ratio": 1.02,
    "prefetch_ratio": 0.85,
    "workers4_speedup": 3.8,
    "journal_open_s": 10.0,
}
AT_LEAST = {"workers4_speedup"}
PARTS = ("wall", "prefetch", "workers", "journal")


def store_in(folder: Path) -> StorePlan:
    """A store of its own, so that nothing is reused."""
    return StorePlan(uri=(folder / "store").as_uri())


def wall(pairs: int, limit: int) -> dict[str, Any]:
    """Plain lmms-eval and the runner on the easy-VQA example."""
    benchmarks = [{"benchmarkRef": {"name": "easy-vqa"}, "limit": limit}]
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)

        def plain(number: int) -> Timed:
            run = make_run(top, store_in(top), benchmarks=benchmarks)
            return run_plain(run, top / f"plain-{number}")

        def ours(number: int) -> Timed:
            folder = top / f"ours-{number}"
            return run_ours(make_run(folder, store_in(folder), benchmarks=benchmarks))

        plain(-1)  # what is read first comes from the disk
        found = interleaved(pairs, plain, ours, "plain and ours")
    ratio, spread = ratios(found, lambda timed: timed.wall)
    cpu, cpu_spread = ratios(found, lambda timed: timed.cpu)
    return {
        "requests": limit,
        "wall_ratio": ratio,
        "wall_ratios": spread,
        "cpu_ratio": cpu,
        "cpu_ratios": cpu_spread,
        "plain_s": statistics.median(first.wall for first, _ in found),
        "equal_scores": all(same_scores(*pair) for pair in found),
        "rss_growth_mib": statistics.median(second.growth_mib for _, second in found),
    }


def prefetch(pairs: int, documents: int) -> dict[str, Any]:
    """The runner on large photographs, without and with decoding ahead."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        print(write_photographs(top / "data", documents), flush=True)
        volumes = {"data": top / "data", "models": EXAMPLE / "models"}
        spec = {
            "model": {
                "profile": "llava_hf",
                "source": {"volume": {"claimName": "models", "path": "full"}},
            },
            "parallelism": {"acceleratorsPerShard": 0},
        }

        def run(number: int, mib: str) -> Timed:
            folder = top / f"{number}-{mib}"
            made = photograph_run(folder, volumes, store_in(folder), spec)
            return run_ours(made, {MIB_VARIABLE: mib})

        run(-1, "")
        found = interleaved(
            pairs,
            lambda number: run(number, "0"),
            lambda number: run(number, ""),
            "without and with decoding ahead",
        )
    ratio, spread = ratios(found, lambda timed: timed.wall)
    answering, _ = ratios(found, lambda timed: timed.answer_seconds)
    return {
        "prefetch_ratio": ratio,
        "prefetch_ratios": spread,
        "prefetch_answer_ratio": answering,
        "without_s": statistics.median(first.wall for first, _ in found),
        "equal_answers": all(same_scores(*pair) for pair in found),
    }


def workers() -> dict[str, Any]:
    """Four workers against one, by a benchmark of its own."""
    from bench.workers import workers_speedup

    return {"workers4_speedup": workers_speedup()}


def journal() -> dict[str, Any]:
    """A large journal opened, by a benchmark of its own."""
    command = [sys.executable, "-m", "bench.journal"]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    figures = json.loads(done.stdout.splitlines()[-1].removeprefix("BENCH "))
    return {key: figures[key] for key in ("journal_open_s", "records", "peak_rss_mib")}


def misses(figures: dict[str, Any]) -> list[str]:
    """The bounds that were measured and do not hold."""
    found = [
        f"{name} is {figures[name]:.3f}, the bound is {bound}"
        for name, bound in BOUNDS.items()
        if name in figures
        and (figures[name] < bound if name in AT_LEAST else figures[name] > bound)
    ]
    found += [name for name in ("equal_scores", "equal_answers") if figures.get(name) is False]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, report; 1 when a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="of plain lmms-eval and ours")
    parser.add_argument("--limit", type=int, default=5000, help="questions of easy-VQA")
    parser.add_argument("--media-pairs", type=int, default=5, help="without and with prefetch")
    parser.add_argument("--documents", type=int, default=800, help="large photographs")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    options = parser.parse_args(arguments)
    figures: dict[str, Any] = {}
    if "wall" in options.parts:
        figures |= wall(options.pairs, options.limit)
    if "prefetch" in options.parts:
        figures |= prefetch(options.media_pairs, options.documents)
    if "workers" in options.parts:
        figures |= workers()
    if "journal" in options.parts:
        figures |= journal()
    missed = misses(figures)
    for miss in missed:
        print(f"missed: {miss}")
    bench(
        "bench-runner",
        **figures,
        pairs=options.pairs,
        media_pairs=options.media_pairs,
        parts=list(options.parts),
        bounds=BOUNDS,
        held=not missed,
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
