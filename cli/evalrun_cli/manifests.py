"""From manifest files to one run and the Benchmarks around it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from evalrun_api.benchmark import Benchmark
from evalrun_api.errors import EvalrunError, Fault, Refused
from evalrun_api.index import near
from evalrun_api.reading import parse_manifests
from evalrun_api.spec import EvaluationRun

STDIN = "-"


@dataclass(frozen=True)
class ManifestFile:
    """A manifest's text. folder: against which its claims are looked up."""

    name: str
    text: str
    folder: Path


@dataclass(frozen=True)
class Manifests:
    """One run, the Benchmarks given with it, and the folders of the files that they stood in."""

    run: EvaluationRun
    folder: Path
    benchmarks: Mapping[str, Benchmark]
    benchmark_folders: Mapping[str, Path]


def read_files(names: Iterable[str], directory: Path) -> list[ManifestFile]:
    """The files of the command line; relative ones, and stdin's claims, are of `directory`."""
    files, faults = [], []
    for name in dict.fromkeys(names):
        if name == STDIN:
            files.append(ManifestFile("stdin", sys.stdin.read(), directory))
            continue
        path = directory / name
        try:
            files.append(ManifestFile(name, path.read_text(), path.resolve().parent))
        except IsADirectoryError:
            remedy = f"Name the files in it: {name.rstrip('/')}/*.yaml"
            faults.append(Fault(name, "it is a folder", remedy))
        except FileNotFoundError:
            faults.append(Fault(name, "there is no such file", "Correct the path of the manifest"))
        except UnicodeDecodeError:
            faults.append(Fault(name, "the file is not text", "Is it a manifest?"))
        except OSError as error:
            what = f"the file cannot be read: {error.strerror}"
            faults.append(Fault(name, what, "Check its owner and rights"))
    if faults:
        raise Refused(faults)
    return files


def gather(files: Iterable[ManifestFile], wanted: str | None) -> Manifests:
    """Pool the files' Benchmarks and pick the one run, by the name `wanted` if there are several.

    Raises `Refused` with the faults of all files.
    """
    runs: list[tuple[EvaluationRun, ManifestFile]] = []
    benchmarks: dict[str, Benchmark] = {}
    sources: dict[str, ManifestFile] = {}
    faults: list[Fault] = []
    for file in files:
        try:
            documents = parse_manifests(file.text, file.name)
        except EvalrunError as error:
            faults.extend(error.faults)
            continue
        for document in documents:
            name = document.metadata.name
            if isinstance(document, EvaluationRun):
                runs.append((document, file))
            elif name in benchmarks:
                what = f"Benchmark {name} also stands in {sources[name].name}"
                faults.append(Fault(f"{file.name}: metadata.name", what, "Give only one of them"))
            else:
                benchmarks[name], sources[name] = document, file
    if faults:
        raise Refused(faults)
    run, file = _pick(runs, wanted)
    folders = {name: source.folder for name, source in sources.items()}
    return Manifests(run, file.folder, benchmarks, folders)


def _pick(
    runs: list[tuple[EvaluationRun, ManifestFile]], wanted: str | None
) -> tuple[EvaluationRun, ManifestFile]:
    names = [run.metadata.name for run, _ in runs]
    if not runs:
        what = "there is no EvaluationRun in the files, only Benchmarks"
        raise Refused([Fault("MANIFEST", what, "Give the file with the EvaluationRun too")])
    if wanted is not None:
        chosen = [entry for entry in runs if entry[0].metadata.name == wanted]
        if not chosen:
            what = f"there is no EvaluationRun {wanted!r}; {near(wanted, names)}"
            raise Refused([Fault("--name", what, f"The files hold: {', '.join(names)}")])
    else:
        chosen = runs
    if len(chosen) > 1:
        what = f"there are {len(chosen)} EvaluationRuns: {', '.join(names)}"
        remedy = "Choose one with --name"
        if len(set(names)) < len(names):
            remedy = "Give only one file for each name"
        raise Refused([Fault("MANIFEST", what, remedy)])
    return chosen[0]


def overridden(run: EvaluationRun, *, fresh: bool, limit: int | None) -> EvaluationRun:
    """The run with what the command line says instead of the manifest."""
    spec = run.spec
    if fresh:
        cache = spec.cache.model_copy(update={"reuse_answers": "Never"})
        spec = spec.model_copy(update={"cache": cache})
    if limit is not None:
        trial = [wanted.model_copy(update={"limit": limit}) for wanted in spec.benchmarks]
        spec = spec.model_copy(update={"benchmarks": trial})
    return run.model_copy(update={"spec": spec})
