"""Images of answers: kept with the journal, copied for scoring, and named as they were at first."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from evalrun_api.journal import Record
from evalrun_runner.journal.reading import Answer
from evalrun_runner.journal.visual_thought import KeptImages
from evalrun_runner.stores import FolderStore

pytestmark = pytest.mark.runner


def drawn(response: Any) -> Record:
    return Record(
        group="g0",
        task="t",
        request_type="generate_visual_cot",
        doc_id=0,
        idx=0,
        fingerprint="f",
        response=response,
    )


def answer(record: Record) -> Answer:
    return Answer(record.response, None, record.error, 1, files=record.files)


@pytest.fixture
def images(tmp_path: Path) -> KeptImages:
    return KeptImages(FolderStore(tmp_path / "store"), "team", "d" * 64, tmp_path / "c\u00f6pies")


def test_a_sample_names_its_own_image_even_if_another_one_drew_the_same(
    images: KeptImages, tmp_path: Path
) -> None:
    responses = []
    for folder in ("a", "\u00e4"):
        image = tmp_path / folder / "step.png"
        image.parent.mkdir()
        image.write_bytes(b"white")
        responses.append(json.dumps({"images": [str(image)], "again": f"see {image}"}))
    given = [images.give_back(answer(images.keep(drawn(response)))) for response in responses]
    assert not set(given) & set(responses)
    for text in given:
        (copy,) = json.loads(text)["images"]
        assert Path(copy).read_bytes() == b"white"
    samples = {"samples": [{"resps": [[text]], "n": 1, "pair": (text, None)} for text in given]}
    assert images.with_first_names(samples) == {
        "samples": [{"resps": [[text]], "n": 1, "pair": (text, None)} for text in responses]
    }


def test_thousands_of_images_get_their_names_back_in_seconds(images: KeptImages) -> None:
    names = {images.copy_of(f"{n:064x}", f"/drawn/{n}.png"): f"/drawn/{n}.png" for n in range(5000)}
    images._originals = {str(copy): name for copy, name in names.items()}
    samples = [{"resps": [[f"{copy} shows"]], "doc": ["words"] * 15} for copy in names]
    begun = time.process_time()
    found = images.with_first_names(samples)
    assert time.process_time() - begun < 5
    assert [sample["resps"] for sample in found] == [[[f"{name} shows"]] for name in names.values()]


def test_an_answer_whose_image_cannot_be_read_is_none(
    images: KeptImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "step.png"
    image.write_bytes(b"white")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    kept = images.keep(drawn(str(image)))
    assert (kept.error, kept.files) == ("BackendError", None)
    assert kept.said == f"its image {image} cannot be read: Permission denied"
