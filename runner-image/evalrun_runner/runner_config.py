"""What `LMMSEvalRunner` is told, as an EvaluationRun: pure, apart from looking at named folders."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from evalrun_api import API_VERSION
from evalrun_api.benchmark import Benchmark
from evalrun_api.errors import Fault, Refused
from evalrun_api.profiles import ModelProfile
from evalrun_api.reading import parse_manifests, read
from evalrun_api.spec import EvaluationRun

DEFAULT_FOLDER = "evalrun-results"
MODEL_CLAIM = "model"
"""Name that the folder of a model on this machine has in the run."""
PROFILE_OF_TYPE = {"llava": "llava_hf", "llava_next": "llava_hf", "mllama": "llama_vision"}
"""`model_type` of a config.json → profile, where the names differ."""
DEVICES = r"^(cpu|cuda|cuda:[0-9]+(,[0-9]+)*)$"


class RunnerConfig(BaseModel):
    """The keys of `LMMSEvalRunner`'s config; all may be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shots: Annotated[int, Field(ge=0, le=1000)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=10)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    gpu_device_id: Annotated[str, Field(pattern=DEVICES)] | None = None
    model_args: dict[str, Any] = Field(default_factory=dict)
    limit: Annotated[int, Field(ge=1)] | None = None
    profile: str | None = None
    output_dir: str | None = None
    trust_remote_code: bool = False
    allow_code_execution: bool = False

    @property
    def devices(self) -> list[str]:
        """Numbers of the GPUs; none for a CPU, and where it is left to the profile."""
        _, _, numbers = (self.gpu_device_id or "").partition(":")
        return numbers.split(",") if numbers else []


@dataclass(frozen=True)
class Wanted:
    """A run, the custom benchmarks that it names, and the folders that stand for its claims."""

    run: EvaluationRun
    benchmarks: dict[str, Benchmark]
    volumes: dict[str, Path]


def read_config(config: Mapping[str, Any]) -> RunnerConfig:
    """The config, checked; raises `Refused` with every fault, near names for unknown keys."""
    value = dict(config)
    if isinstance(value.get("output_dir"), Path):
        value["output_dir"] = str(value["output_dir"])
    if isinstance(value.get("temperature"), int):
        value["temperature"] = float(value["temperature"])
    return read(RunnerConfig, value, "config: ")


def wanted(
    model_id: str,
    benchmark_ids: Sequence[str],
    config: RunnerConfig,
    profiles: Mapping[str, ModelProfile],
) -> Wanted:
    """The run that is asked for.

    model_id: a repository of the hub, a folder, or the name of a profile whose weights are named in
    config["model_args"]. benchmark_ids: names, and files with Benchmark objects.
    """
    args = dict(config.model_args)
    profile, source, volumes = _model(model_id, args, config, profiles)
    named, benchmarks = _benchmarks(benchmark_ids, volumes, config)
    spec: dict[str, Any] = {
        "model": {"profile": profile, "source": source, "args": args},
        "benchmarks": named,
        "evaluation": _given(fewShot=config.shots, batchSize=config.batch_size),
        "security": {
            "trustRemoteCode": config.trust_remote_code,
            "allowCodeExecution": config.allow_code_execution,
        },
    }
    if config.seed is not None:
        names = ("python", "numpy", "torch", "fewShot")
        spec["evaluation"]["seed"] = dict.fromkeys(names, config.seed)
    if config.temperature is not None:
        spec["generation"] = {
            "temperature": config.temperature,
            "doSample": config.temperature > 0,
        }
    if config.gpu_device_id is not None:
        count = 0 if config.gpu_device_id == "cpu" else max(len(config.devices), 1)
        spec["parallelism"] = {"acceleratorsPerShard": count}
    document = {
        "apiVersion": API_VERSION,
        "kind": "EvaluationRun",
        "metadata": {"name": run_name(model_id)},
        "spec": spec,
    }
    return Wanted(read(EvaluationRun, document), benchmarks, volumes)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _model(
    model_id: str,
    args: dict[str, Any],
    config: RunnerConfig,
    profiles: Mapping[str, ModelProfile],
) -> tuple[str, dict[str, Any], dict[str, Path]]:
    """Profile, source, and folder of the model. Takes what names the weights out of `args`."""
    name, weights = config.profile, model_id
    if model_id in profiles and not Path(model_id).is_dir():
        name = name or model_id
        profile = profiles.get(name)
        key = profile.source_arg if profile else "pretrained"
        found = args.pop(key, None)
        if not isinstance(found, str) or not found:
            what = f"{model_id!r} is a profile, and nothing says where its weights are"
            remedy = f'Give config["model_args"]["{key}"], or a repository or folder as model_id'
            raise Refused([Fault("model_id", what, remedy)])
        weights = found
        if profile is not None and profile.endpoint:
            address = args.pop("base_url", None)
            return name, {"endpoint": {"url": address, "model": weights}}, {}
    folder = Path(weights).expanduser()
    if folder.is_dir():
        source = {"volume": {"claimName": MODEL_CLAIM}}
        volumes = {MODEL_CLAIM: folder.resolve()}
    else:
        source = {"huggingFace": {"repo": weights}}
        volumes = {}
    name = name or (_of_folder(folder, profiles) if volumes else None) or guessed(weights, profiles)
    if name is None:
        what = f"no profile is known for {weights!r}"
        remedy = f'Name one in config["profile"]: {", ".join(sorted(profiles))}'
        raise Refused([Fault("model_id", what, remedy)])
    return name, source, volumes


def _of_folder(folder: Path, profiles: Mapping[str, ModelProfile]) -> str | None:
    """The profile of the model in a folder, by the type that its configuration names."""
    try:
        found = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    kind = str(found.get("model_type")) if isinstance(found, dict) else ""
    name = PROFILE_OF_TYPE.get(kind, kind)
    return name if name in profiles else None


def guessed(repo: str, profiles: Mapping[str, ModelProfile]) -> str | None:
    """The profile whose name stands in a repository's, the longest of them."""

    def folded(text: str) -> str:
        return re.sub(r"[^a-z0-9]", "", text.lower())

    fitting = [name for name in profiles if folded(name) in folded(repo)]
    return max(fitting, key=lambda name: (len(folded(name)), name), default=None)


def _benchmarks(
    names: Sequence[str], volumes: dict[str, Path], config: RunnerConfig
) -> tuple[list[dict[str, Any]], dict[str, Benchmark]]:
    """The run's list of benchmarks, and the custom ones. Adds the folders of their data."""
    if isinstance(names, str) or not names:
        what = "it is no list of names" if names else "it is empty"
        raise Refused([Fault("benchmark_ids", what, 'Give a list, for example ["mme"]')])
    entries: list[dict[str, Any]] = []
    custom: dict[str, Benchmark] = {}
    for name in names:
        if not name.endswith((".yaml", ".yml")):
            entries.append({"name": name})
            continue
        file = Path(name).expanduser()
        for benchmark in _of_file(file):
            custom[benchmark.metadata.name] = benchmark
            entries.append({"benchmarkRef": {"name": benchmark.metadata.name}})
            volume = benchmark.spec.data.volume if benchmark.spec.data else None
            if volume is not None:
                folder = file.resolve().parent / volume.claim_name
                if volumes.setdefault(volume.claim_name, folder) != folder:
                    raise _taken(file, volume.claim_name, volumes[volume.claim_name])
    if config.limit is not None:
        entries = [{**entry, "limit": config.limit} for entry in entries]
    return entries, custom


def _taken(file: Path, claim: str, folder: Path) -> Refused:
    what = f"its data's claim {claim!r} stands for {folder} already"
    remedy = "Give the claim another name in data.volume.claimName, and its folder too"
    return Refused([Fault(f"benchmark_ids: {file}", what, remedy)])


def _of_file(file: Path) -> list[Benchmark]:
    try:
        text = file.read_text()
    except (OSError, ValueError) as error:
        fault = Fault(f"benchmark_ids: {file}", f"it cannot be read: {error}", "Name a file")
        raise Refused([fault]) from error
    documents = parse_manifests(text, str(file))
    found = [document for document in documents if isinstance(document, Benchmark)]
    if not found:
        fault = Fault(f"benchmark_ids: {file}", "it holds no Benchmark", "Name a file with one")
        raise Refused([fault])
    return found


def run_name(model_id: str) -> str:
    """A name for the run: what the model's name leaves of one."""
    last = model_id.rstrip("/").rpartition("/")[2].lower()
    return re.sub(r"[^a-z0-9]+", "-", last).strip("-")[:50].strip("-") or "model"
