"""Every way to the same score: `make exactness`.

Every request type of lmms-eval is evaluated by plain lmms-eval and by the runner in every way that
the work can be split, broken and resumed. At batch 1 all have to agree in every number and every
sample; at batch 8, with a backend whose answers depend on their batch, the runner's own ways have
to. `--break` exchanges two answers of a journal, which has to be seen.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "runner"))

import kind_backends  # noqa: E402  # found by the line above, as lmms-eval has to find it
import kind_tasks  # noqa: E402
import variants  # noqa: E402
import yaml  # noqa: E402
from variants import Bench, Case, Group, Numbers  # noqa: E402

from bench.reporting import bench  # noqa: E402
from evalrun_runner.local import LocalRun  # noqa: E402

EXAMPLE = ROOT / "examples" / "easy-vqa"
CHUNK = 4
WAYS = ("1 shard", "3x2", "killed", "applied again", "re-scored")
SHOWN = {True: "=", False: "UNEQUAL", None: "-"}


def small_model(limit: int) -> list[Case]:
    """The trained model on easy-VQA and on image tasks, in both forms of lmms-eval's backend."""
    custom = yaml.safe_load((EXAMPLE / "benchmark.yaml").read_text())["spec"]
    source = {"volume": {"claimName": "models", "path": "full"}}
    plain = f"pretrained={EXAMPLE / 'models' / 'full'},dtype=float32,device_map=cpu"
    groups = [
        Group("easy", ["easy_vqa"], {"limit": limit}, custom["files"]),
        Group("llava", ["mme", "pope"]),
    ]
    model = {"profile": "llava_hf", "source": source, "args": {"dtype": "float32"}}
    plain += ",attn_implementation=sdpa"
    models = EXAMPLE / "models"
    return [
        Case("llava-chat", "llava_hf", model, plain, groups, models),
        Case(
            "llava-simple",
            "llava_hf",
            model,
            plain,
            groups,
            models,
            evaluation={"forceSimple": True},
            plain_flags=["--force_simple"],
            forgets=True,
        ),
    ]


def ways(place: Bench, case: Case, batch: int, *, damage: bool) -> dict[str, Numbers]:
    """What each way of evaluating a case gives."""
    found: dict[str, Numbers] = {}

    def done(way: str, run: LocalRun) -> None:
        found[way] = place.numbers(case, run)
        print(f"  {case.name}, batch {batch}: {way}", flush=True)

    one = place.run(case, batch, CHUNK * batch)
    variants.execute(one)
    done("1 shard", one)

    parts = variants.spread(place.run(case, batch, CHUNK * batch), 3, 2)
    variants.execute(parts, "prepare")
    variants.answer_in_parts(parts)
    if damage:
        print(f"  two answers of {variants.swap_two_answers(parts)} are exchanged")
    shutil.rmtree(place.drawings, ignore_errors=True)  # score has the journal's copies alone
    variants.execute(parts, "score")
    done("3x2", parts)

    dying = place.run(case, batch, CHUNK * batch)
    variants.killed(dying, 3)
    dying = variants.spread(dying, 2)
    variants.killed(dying, 2, "answer", "--shard", "1", "--worker", "0")
    variants.answer_in_parts(dying)
    variants.execute(dying, "score")
    done("killed", dying)

    before = kind_backends.Following.made
    anew = variants.again(one)
    variants.execute(anew)
    done("applied again", anew)
    shutil.rmtree(place.drawings, ignore_errors=True)
    variants.forget_score(one)
    variants.execute(one, "score")
    done("re-scored", one)
    if kind_backends.Following.made != before:
        raise AssertionError("a model was loaded although every answer was there")
    return found


def table(case: Case, batch: int, numbers: dict[str, Numbers], against: str) -> int:
    """Print task by way; how many are unequal to `against`."""
    wrong = 0
    for task in case.task_names:
        cells = []
        for way in WAYS:
            same = (
                None
                if way == against
                else task
                not in variants.unequal({task: numbers[against][task]}, {task: numbers[way][task]})
            )
            wrong += same is False
            cells.append(f"{SHOWN[same]:>14}")
        print(f"{case.name:13}{batch:>3}  {task:32}{against:>10}{''.join(cells)}")
    return wrong


def quietly(work: Callable[[], dict[str, Numbers]], log: Path) -> dict[str, Numbers]:
    """Work with what libraries write to standard error put into a file."""
    kept = os.dup(2)
    with log.open("ab") as output:
        os.dup2(output.fileno(), 2)
        try:
            return work()
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def main() -> int:
    """Run it; 1 if anything is unequal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=24, help="of each task")
    parser.add_argument("--only", help="name of the one case to run")
    parser.add_argument("--break", dest="damage", action="store_true", help="exchange two answers")
    options = parser.parse_args()
    kind_backends.register()
    folder = Path(tempfile.mkdtemp(prefix="evalrun-exactness-"))
    data, models, drawings = folder / "data", folder / "models", folder / "drawings"
    kind_tasks.write_data(data, options.documents)
    shutil.copy(EXAMPLE / "data" / "easy_vqa_test.parquet", data)
    (models / "none").mkdir(parents=True)
    (models / "none" / "weights").write_text("none: its answers follow from the question")
    place = Bench(folder, data, drawings)
    alone = variants.kinds(models, drawings) + small_model(options.documents)
    together = variants.kinds(models, drawings, together=True)
    tasks, unequal, rows = set(), 0, []
    for batch, cases in ((1, alone), (8, together)):
        for case in cases:
            if options.only not in (None, case.name):
                continue
            found = quietly(
                partial(ways, place, case, batch, damage=options.damage),
                folder / "log",
            )
            if batch == 1:
                found["plain"] = place.plain(case, f"{case.name}-{batch}")
            rows.append((case, batch, found))
            tasks |= set(case.task_names)
    print(
        f"{'model':13}{'batch':>3} {'task':32}{'against':>10}" + "".join(f"{w:>14}" for w in WAYS)
    )
    for case, batch, found in rows:
        unequal += table(case, batch, found, "plain" if batch == 1 else "1 shard")
    bench("exactness", tasks=len(tasks), unequal=unequal)
    if unequal:
        print(f"unequal: see {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
