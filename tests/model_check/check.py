"""`make model-check`: explore all scenarios, then all mutants, and say what was found."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from bench.reporting import bench
from model_check.explore import LEAST, SETTLING, Exploration, Result
from model_check.mutants import MUTANTS
from model_check.properties import PROPERTIES
from model_check.scenarios import DELAY, FULL, Scenario

MAX_SECONDS = 300.0
FORMAT = "{:45s} {:>6} {:>8} {:>11} {:>8} {:>7} {:>7}  {}"


def explore(number: int) -> Result:
    """Explore one scenario."""
    return Exploration(FULL[number]).run()


def judge(number: int) -> Result:
    """Explore with a rule that is wrong."""
    mutant = MUTANTS[number]
    with mutant.applied():
        return Exploration(mutant.where).run()


def main() -> int:
    """Explore and print. 1 if a property is broken, a mutant survives, or it took too long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="scenarios whose name holds this; no mutants")
    parser.add_argument("--jobs", type=int, default=min(len(os.sched_getaffinity(0)), 2))
    arguments = parser.parse_args()
    begun = time.monotonic()
    chosen = [n for n, scenario in enumerate(FULL) if arguments.only in scenario.name]
    with ProcessPoolExecutor(arguments.jobs, max_tasks_per_child=1) as pool:
        results = _scenarios(zip(chosen, pool.map(explore, chosen), strict=True))
        explored = time.monotonic() - begun
        caught = 0 if arguments.only else _mutants(pool.map(judge, range(len(MUTANTS))))
    seconds = time.monotonic() - begun
    broken = sum(result.violation is not None for result in results)
    mutants = 0 if arguments.only else len(MUTANTS)
    print(f"\n{seconds:.0f} s with {arguments.jobs} process(es); {MAX_SECONDS:.0f} are allowed")
    bench(
        "model-check",
        states=sum(result.states for result in results),
        transitions=sum(result.transitions for result in results),
        faults=sum(sum(result.faults.values()) for result in results),
        violations=broken,
        scenarios=len(results),
        properties=len(PROPERTIES),
        mutants=mutants,
        mutants_caught=caught,
        seconds=seconds,
        explored_s=explored,
        cpu_s=sum(result.seconds for result in results),
        processes=arguments.jobs,
    )
    return 1 if broken or caught < mutants or seconds > MAX_SECONDS else 0


def _scenarios(found: Iterator[tuple[int, Result]]) -> list[Result]:
    print(
        f"faults: of any class, at most so many on one path; a silence takes {DELAY} s. settled:\n"
        f"states with those on the way to rest, reached in at most {SETTLING} steps; longest: so\n"
        f"many were needed. A wait on that way takes at least {LEAST} s. s: of one processor.\n"
    )
    print(
        FORMAT.format("scenario", "faults", "states", "transitions", "settled", "longest", "s", "")
    )
    faults: Counter[str] = Counter()
    results = []
    for number, result in found:
        scenario = FULL[number]
        results.append(result)
        faults += result.faults
        print(_row(scenario, result), flush=True)
        for line in result.trace:
            print(line)
    states, transitions = sum(r.states for r in results), sum(r.transitions for r in results)
    print(f"\n{states:,} states, {transitions:,} transitions; faults injected by class:")
    for kind, count in faults.most_common():
        print(f"  {count:9,} {kind}")
    broken = sum(result.violation is not None for result in results)
    print(f"{broken} violations of {len(PROPERTIES)} properties")
    return results


def _row(scenario: Scenario, result: Result) -> str:
    ends = ", ".join(f"{name} {count}" for name, count in sorted(result.ends.items()))
    return FORMAT.format(
        scenario.name,
        scenario.faults,
        result.states,
        result.transitions,
        result.settled,
        result.longest,
        f"{result.seconds:.1f}",
        f"BROKEN: {result.violation}" if result.violation else f"rests: {ends}",
    )


def _mutants(found: Iterator[Result]) -> int:
    print(f"\n{'a rule that is wrong on purpose':45s} {'states':>8}  caught by")
    caught = 0
    for mutant, result in zip(MUTANTS, found, strict=True):
        caught += result.violation is not None
        told = result.violation or "NOBODY"
        print(f"{mutant.name:45s} {result.states:8d}  {told}", flush=True)
    print(f"{caught} of {len(MUTANTS)} caught")
    return caught


if __name__ == "__main__":
    sys.exit(main())
