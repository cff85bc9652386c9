"""Every request type, few-shot, repeats and a scorer that draws give plain lmms-eval's numbers.

A part of `make exactness`, in two chunks' worth of documents a task.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evalrun_runner import layout
from evalrun_runner.stores import open_store

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]

DOCUMENTS = 8


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    import kind_backends
    import kind_tasks
    from variants import Bench

    kind_backends.register()
    folder = tmp_path_factory.mktemp("kinds")
    kind_tasks.write_data(folder / "data", DOCUMENTS)
    (folder / "models" / "none").mkdir(parents=True)
    (folder / "models" / "none" / "weights").write_text("none")
    yield Bench(folder, folder / "data", folder / "drawings")
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def simple(place: Any) -> tuple[Any, Any]:
    """The case with every request type, and plain lmms-eval's numbers for it."""
    import variants

    case, _ = variants.kinds(place.folder / "models", place.drawings)
    return case, place.plain(case, "simple")


def test_a_split_run_scored_without_its_drawings_gives_plain_lmms_evals_numbers(
    place: Any, simple: tuple[Any, Any]
) -> None:
    import variants

    case, plain = simple
    run = variants.spread(place.run(case, chunk=4), 2, 2)
    variants.execute(run, "prepare")
    variants.answer_in_parts(run)
    shutil.rmtree(place.drawings)
    variants.execute(run, "score")
    assert variants.unequal(plain, place.numbers(case, run)) == []


def test_a_run_killed_amid_conversations_goes_on_where_it_was(
    place: Any, simple: tuple[Any, Any]
) -> None:
    """And lands on plain lmms-eval's numbers; a damaged journal does not."""
    import variants

    case, plain = simple
    run = place.run(case, chunk=4)
    variants.killed(run, 4)  # conversations come first, by rounds
    variants.execute(run)
    assert variants.unequal(plain, place.numbers(case, run)) == []
    store = open_store(run.plan.store)
    lock = json.loads(store.get(layout.lock_of_run(run.plan.run)) or b"")
    assert _asked(run, lock) == len(set(_asked_keys(run, lock)))

    damaged = variants.swap_two_answers(run)
    variants.forget_score(run)
    variants.execute(run, "score")
    assert variants.unequal(plain, place.numbers(case, run)) == [damaged]


def _asked_keys(run: Any, lock: dict[str, Any]) -> list[Any]:
    from evalrun_runner.journal.segments import read_records

    prefix = layout.segments(run.plan.run.namespace, lock["answers"])
    return [
        (record.key, record.fingerprint)
        for record in read_records(open_store(run.plan.store), prefix)
    ]


def _asked(run: Any, lock: dict[str, Any]) -> int:
    return len(_asked_keys(run, lock))


def test_predictions_alone_have_no_score(place: Any) -> None:
    import variants
    from variants import Group

    case = variants.following(
        "predict", place.folder / "models", place.drawings, [Group("alone", ["pope", "ai2d"])]
    )
    run = place.run(case)
    run = variants.replace(run, plan=run.plan.model_copy(update={"predict_only": True}))
    variants.execute(run)
    found = place.numbers(case, run)
    assert [len(found[task]["samples"]) for task in case.task_names] == [DOCUMENTS] * 2
    manifest = json.loads(open_store(run.plan.store).get(layout.manifest(run.plan.run)) or b"")
    assert manifest["scores"] == []


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"apply_chat_template": True}, "spec.evaluation.applyChatTemplate"),
        ({"few_shot_as_multiturn": True}, "spec.evaluation.fewShotAsMultiturn"),
        ({"max_batch_size": 8}, "spec.evaluation.maxBatchSize"),
    ],
)
def test_a_setting_that_the_backend_cannot_follow_is_refused_by_its_field(
    place: Any, plan: dict[str, Any], said: str
) -> None:
    import variants
    from variants import Group

    case = variants.following(
        "refused", place.folder / "models", place.drawings, [Group("no", ["pope"])]
    )
    run = place.run(case)
    run = variants.replace(run, plan=run.plan.model_copy(update=plan))
    with pytest.raises(AssertionError, match=said):
        variants.execute(run, "prepare")


def test_every_flag_of_lmms_evals_command_line_has_a_field_or_a_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lmms_eval.__main__ import parse_eval_args

    from evalrun_api.lmms_eval_arguments import FLAGS

    monkeypatch.setattr("sys.argv", ["lmms_eval"])
    parser, _ = parse_eval_args()
    documented = {
        max(action.option_strings, key=lambda name: (name in FLAGS, name.startswith("--")))
        for action in parser._actions
        if action.dest != "help"
    }
    assert documented == set(FLAGS)
    assert all(flag.field or flag.note for flag in FLAGS.values())


def test_an_answer_cannot_have_any_file_of_the_machine_stored(tmp_path: Path) -> None:
    from evalrun_runner.journal.visual_thought import named_files

    secret, image = tmp_path / "token", tmp_path / "drawn.png"
    secret.write_text("s")
    image.write_bytes(b"png")
    said = json.dumps({"text": str(secret), "images": [str(image), "/nowhere/else.png"]})
    assert named_files({"$generation": said}) == {str(image)}
