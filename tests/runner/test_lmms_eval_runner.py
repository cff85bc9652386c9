"""`LMMSEvalRunner`: what it is told, and an evaluation of the real model with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalrun_api.errors import Refused
from evalrun_api.manifest import Manifest
from evalrun_api.profiles import builtin_profiles
from evalrun_api.reasons import ExitCode
from evalrun_runner import LMMSEvalRunner, layout
from evalrun_runner.local import open_store
from evalrun_runner.runner_config import guessed, read_config, run_name, wanted

decisions = pytest.mark.decisions
EXAMPLE = Path(__file__).parents[2] / "examples" / "easy-vqa"
MODEL, BENCHMARK = str(EXAMPLE / "models" / "full"), str(EXAMPLE / "benchmark.yaml")
LIMIT = 640


def spec_of(model_id: str, benchmarks: list[str], **config: Any) -> dict[str, Any]:
    found = wanted(model_id, benchmarks, read_config(config), builtin_profiles())
    return found.run.spec.model_dump(by_alias=True, exclude_unset=True)


@decisions
def test_the_config_becomes_the_runs_fields() -> None:
    spec = spec_of(
        "Qwen/Qwen2.5-VL-7B-Instruct",
        ["mme", "chartqa"],
        shots=2,
        seed=7,
        temperature=0.5,
        batch_size=4,
        gpu_device_id="cuda:0,1,2,3",
        model_args={"max_num_frames": 8},
        limit=10,
    )
    assert spec["model"] == {
        "profile": "qwen2_5_vl",
        "source": {"huggingFace": {"repo": "Qwen/Qwen2.5-VL-7B-Instruct"}},
        "args": {"max_num_frames": 8},
    }
    assert spec["benchmarks"] == [{"name": "mme", "limit": 10}, {"name": "chartqa", "limit": 10}]
    seeds = {"python": 7, "numpy": 7, "torch": 7, "fewShot": 7}
    assert spec["evaluation"] == {"fewShot": 2, "batchSize": 4, "seed": seeds}
    assert spec["generation"] == {"temperature": 0.5, "doSample": True}
    assert spec["parallelism"] == {"acceleratorsPerShard": 4}


@decisions
def test_what_is_left_out_stays_as_the_profile_has_it() -> None:
    spec = spec_of("llava-hf/llava-1.5-7b-hf", ["mme"])
    assert spec["model"]["profile"] == "llava_hf"
    assert (spec["evaluation"], "generation" in spec, "parallelism" in spec) == ({}, False, False)


@decisions
@pytest.mark.parametrize(
    ("device", "accelerators", "visible"),
    [
        ("cpu", 0, None),
        ("cuda", 1, None),
        ("cuda:0", 1, "0"),
        ("cuda:2,3", 2, "2,3"),
    ],
)
def test_devices(device: str, accelerators: int, visible: str | None, tmp_path: Path) -> None:
    runner = LMMSEvalRunner(
        "llava-hf/llava-1.5-7b-hf",
        ["mme"],
        {"gpu_device_id": device, "output_dir": tmp_path},
    )
    assert runner.plan.accelerators == accelerators
    assert runner._run.environment.get("CUDA_VISIBLE_DEVICES") == visible


@decisions
def test_a_profile_takes_its_weights_from_the_model_args() -> None:
    repo = "llava-hf/llava-v1.6-mistral-7b-hf"
    spec = spec_of("llava_hf", ["mme"], model_args={"pretrained": repo, "dtype": "float16"})
    assert spec["model"] == {
        "profile": "llava_hf",
        "source": {"huggingFace": {"repo": repo}},
        "args": {"dtype": "float16"},
    }
    served = {"model_version": "qwen", "base_url": "http://localhost:8000/v1"}
    spec = spec_of("openai", ["mme"], model_args=served)
    endpoint = {"url": "http://localhost:8000/v1", "model": "qwen"}
    assert spec["model"]["source"] == {"endpoint": endpoint}


@decisions
def test_a_folder_tells_its_profile_and_a_file_its_benchmark() -> None:
    found = wanted(MODEL, [BENCHMARK], read_config({}), builtin_profiles())
    assert found.run.spec.model.profile == "llava_hf"
    assert found.volumes == {"model": Path(MODEL).resolve(), "data": EXAMPLE.resolve() / "data"}
    assert list(found.benchmarks) == ["easy-vqa"]


@decisions
@pytest.mark.parametrize(
    ("model", "benchmarks", "config", "told"),
    [
        ("a/b", ["mme"], {"shot": 2}, "did you mean shots?"),
        ("a/b", ["mme"], {"batchsize": 2, "sed": 1}, "did you mean seed?"),
        ("a/b", ["mme"], {"shots": "2"}, "config: shots"),
        ("a/b", ["mme"], {"gpu_device_id": "gpu0"}, "config: gpu_device_id"),
        ("a/b", ["mme"], {}, 'Name one in config["profile"]'),
        ("llava_hf", ["mme"], {}, 'Give config["model_args"]["pretrained"]'),
        ("org/llava-hf", ["mmee"], {}, "did you mean mme"),
        ("org/llava-hf", [], {}, "benchmark_ids: it is empty"),
        ("org/llava-hf", "mme", {}, "benchmark_ids: it is no list of names"),
        ("org/llava-hf", ["nothing.yaml"], {}, "it cannot be read"),
        ("org/llava-hf", ["mme"], {"model_args": {"api_key": "x"}}, "it has a field of its own"),
    ],
)
def test_what_is_wrong_is_told(
    model: str,
    benchmarks: Any,
    config: dict[str, Any],
    told: str,
    show_message: Callable[[object, str], None],
) -> None:
    with pytest.raises(Refused) as refused:
        LMMSEvalRunner(model, benchmarks, config)
    assert told in str(refused.value)
    show_message(refused.value.reason.name, str(refused.value))


@decisions
@pytest.mark.parametrize(
    ("repo", "profile"),
    [
        ("Qwen/Qwen2.5-VL-3B-Instruct", "qwen2_5_vl"),
        ("llava-hf/llava-1.5-7b-hf", "llava_hf"),
        ("lmms-lab/llava-onevision-qwen2-7b-ov", "llava_onevision"),
        ("someone/else", None),
    ],
)
def test_a_repositorys_name_tells_its_profile(repo: str, profile: str | None) -> None:
    assert guessed(repo, builtin_profiles()) == profile


@decisions
@pytest.mark.parametrize(
    ("model", "name"),
    [("Qwen/Qwen2.5-VL-3B", "qwen2-5-vl-3b"), ("/models/x_y/", "x-y"), ("…", "model")],
)
def test_the_runs_name_is_the_models(model: str, name: str) -> None:
    assert run_name(model) == name


@decisions
def test_one_claim_does_not_stand_for_two_folders(tmp_path: Path) -> None:
    text = Path(BENCHMARK).read_text()
    other = tmp_path / "other.yaml"
    other.write_text(text.replace("easy-vqa", "other").replace("easy_vqa", "other"))
    with pytest.raises(Refused, match=r"stands for .* already"):
        wanted(MODEL, [BENCHMARK, str(other)], read_config({}), builtin_profiles())
    other.write_text(text.replace("claimName: data", "claimName: model"))
    with pytest.raises(Refused, match=r"stands for .* already"):
        wanted(MODEL, [str(other)], read_config({}), builtin_profiles())


def test_metrics_are_found_among_other_lines() -> None:
    score = {"message": "score", "benchmark": "mme", "metric": "p", "value": "0.5"}
    lines = [
        "Loading checkpoint shards: 100%",
        "{not json",
        "[1, 2]",
        json.dumps({"message": "score"}),
        json.dumps({"message": "scored", "benchmark": "mme", "metric": "p", "value": "1"}),
        json.dumps(score),
        json.dumps({**score, "metric": "q", "filter": "none", "value": "2"}),
        json.dumps({**score, "metric": "q", "filter": "strict", "value": "3e-1"}),
        json.dumps({**score, "benchmark": "gqa", "value": "nothing"}),
        json.dumps("score"),
    ]
    found = LMMSEvalRunner.parse_metrics("\n".join(lines))
    assert found["mme"] == {"p": 0.5, "q": 2.0, "q,strict": 0.3}
    assert LMMSEvalRunner.parse_metrics("") == {}


@decisions
def test_importing_it_imports_nothing_heavy() -> None:
    code = (
        "import sys; import evalrun_runner; assert 'evalrun_runner.local' not in sys.modules; "
        "from evalrun_runner import LMMSEvalRunner; import evalrun_runner.main; "
        "print(*(set(sys.modules) & {'torch', 'lmms_eval', 'transformers', 'datasets', 'boto3', "
        "'numpy', 'pyarrow', 'PIL'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


@decisions
def test_the_page_shows_the_example() -> None:
    page = (EXAMPLE.parents[1] / "docs" / "LMMS_EVAL_INTEGRATION.md").read_text()
    shown = page.partition("```python\n")[2].partition("```")[0]
    assert shown
    assert (EXAMPLE / "from_python.py").read_text().endswith("\n" + shown)


@pytest.mark.runner
def until_it_answers(runner: LMMSEvalRunner) -> None:
    """Wait for its first answers: before them there is nothing to keep."""
    deadline = time.monotonic() + 60
    while (seen := runner._started().progress()) is None or not seen.computed:
        assert time.monotonic() < deadline, runner.stdout
        time.sleep(0.01)


def test_an_evaluation_that_is_interrupted_and_started_again(tmp_path: Path, data: Path) -> None:
    config = {
        "gpu_device_id": "cpu",
        "limit": LIMIT,
        "output_dir": tmp_path,
        "allow_code_execution": True,
    }
    first = LMMSEvalRunner(MODEL, [BENCHMARK], config)
    with pytest.raises(RuntimeError, match=r"call start\(\) first"):
        first.wait()
    os.kill(first.start(), 0)  # it is a process
    with pytest.raises(RuntimeError, match="started before"):
        first.start()
    logs = first.stream_logs()
    for line in logs:
        if "model loaded" in line:
            break
    until_it_answers(first)
    with pytest.raises(KeyboardInterrupt):
        logs.throw(KeyboardInterrupt)
    assert first.wait() == ExitCode.STOPPED
    stopped = first.outcome
    assert stopped is not None
    assert stopped.reason == "Stopped"
    assert 0 < stopped.computed < LIMIT
    assert first.parse_metrics(first.stdout) == {}

    again = LMMSEvalRunner(MODEL, [BENCHMARK], config)
    again.start()
    printed = list(again.stream_logs())
    assert again.wait() == 0, again.stdout
    ended = again.outcome
    assert ended is not None
    assert (ended.reused, ended.computed) == (stopped.computed, LIMIT - stopped.computed)
    assert again.stdout.splitlines() == printed
    metrics = again.parse_metrics(again.stdout)
    stored = open_store(again.plan.store).get(layout.manifest(again.plan.run))
    manifest = Manifest.model_validate_json(stored or b"")
    assert metrics["easy_vqa"] == {score.metric: float(score.value) for score in manifest.scores}
    assert metrics["easy_vqa"]["exact_match"] > 0.97
