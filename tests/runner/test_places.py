"""Where a runner takes the files of custom benchmarks from, and which it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalrun_api.digests import digest
from evalrun_api.errors import EvalrunError
from evalrun_api.plan import CustomBenchmark
from evalrun_runner.places import Places, include_folder

pytestmark = pytest.mark.runner


@pytest.mark.parametrize(
    ("files", "has_code"),
    [
        ({"t.yaml": "task: t\n"}, False),
        ({"t.yaml": "task: t\n", "utils.py": ""}, True),
        ({"t.yaml": "task: t\ndoc_to_text: !function utils.f\n"}, True),
    ],
)
def test_code_that_the_plan_does_not_allow_is_not_run(
    files: dict[str, str], has_code: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "benchmarks" / "t"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    places = Places(work=tmp_path, spool=tmp_path, benchmarks=tmp_path / "benchmarks")
    custom = CustomBenchmark(name="t", digest=digest(files), tasks=["t"])
    assert include_folder(custom, places, allow_code=True).is_dir()
    if has_code:
        with pytest.raises(EvalrunError, match="brings Python code"):
            include_folder(custom, places, allow_code=False)
    else:
        assert include_folder(custom, places, allow_code=False).is_dir()
