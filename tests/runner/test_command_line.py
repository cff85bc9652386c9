"""`evalrun` as a user has it: the installed command, the example's own files, a real run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import evalrun_api

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]

EXAMPLE = Path(__file__).parents[2] / "examples" / "easy-vqa"
EVALRUN = Path(sys.executable).parent / "evalrun"


@pytest.fixture
def command(tmp_path: Path, data: Path) -> list[str]:
    files = [str(EXAMPLE / "benchmark.yaml"), str(EXAMPLE / "run.yaml")]
    store = (tmp_path / "store").as_uri()
    return [str(EVALRUN), "run", *files, "--limit", "1500", "--store", store]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "COLUMNS": "100"}


def test_ctrl_c_loses_nothing_and_says_how_to_go_on(
    command: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    log = (tmp_path / "stderr").open("w+")
    first = subprocess.Popen(command, env=environment, stderr=log, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(tmp_path.glob("store/answers/*/*/segments/*")):
        assert first.poll() is None, (tmp_path / "stderr").read_text()
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 130
    log.seek(0)
    said = log.read()
    print(said[-800:])
    stopped = re.search(r"stopped; ([\d,]+) of 1,500 answers are stored", said)
    assert stopped, said
    stored = int(stopped[1].replace(",", ""))
    assert 0 < stored < 1500
    assert "go on with: evalrun run" in " ".join(said.split())

    second = subprocess.run(
        [*command, "-o", "json"], env=environment, capture_output=True, text=True, check=True
    )
    document: dict[str, Any] = json.loads(second.stdout)
    assert document["outcome"] == "Succeeded"
    assert document["answers"]["reused"] == stored
    assert document["answers"]["computed"] == 1500 - stored
    results = json.loads(Path(document["files"]["results"][0].removeprefix("file://")).read_text())
    (score,) = [each for each in document["scores"] if each["metric"] == "exact_match"]
    assert float(score["value"]) == results["results"]["easy_vqa"]["exact_match,none"]


def test_the_index_of_names_is_that_of_the_installed_lmms_eval() -> None:
    written = Path(evalrun_api.__file__).parent / "data" / "lmms_eval_index.json"
    script = (
        "import json; from evalrun_runner.harness.generate_index import build_index; "
        "print('INDEX' + json.dumps(build_index()))"
    )
    # In a process of its own: other tests register backends of their own in this one.
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    installed = json.loads(printed.stdout.partition("INDEX")[2])
    differing = [key for key in installed if installed[key] != json.loads(written.read_text())[key]]
    assert not differing, "run `make generate`"
