"""Applying manifests to a cluster: read strictly, checked here, judged by the API server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError
from rich.text import Text

from evalrun_api import API_GROUP, API_VERSION
from evalrun_api.benchmark import Benchmark
from evalrun_api.checks import Surroundings
from evalrun_api.errors import EvalrunError, Fault, Refused
from evalrun_api.index import builtin_index
from evalrun_api.plan import StorePlan
from evalrun_api.planning import make_plan
from evalrun_api.policy import LAPTOP
from evalrun_api.profiles import builtin_profiles
from evalrun_api.reading import KINDS, MAX_MANIFEST_BYTES, parse_manifests
from evalrun_api.spec import EvaluationRun
from evalrun_api.yaml_size import check_size
from evalrun_cli import cluster_tables, invocation, run_state
from evalrun_cli.cluster import BENCHMARKS, RUNS, Cluster, Resource
from evalrun_cli.manifests import ManifestFile
from evalrun_cli.object_names import is_name, is_namespace
from evalrun_cli.output import Format, answer, aside, is_document, print_document
from evalrun_cli.refusals import ApiError

Doc = dict[str, Any]

RESOURCES: dict[str, Resource] = {"Benchmark": BENCHMARKS, "EvaluationRun": RUNS}
"""In the order in which they are applied: a run refers to Benchmarks."""
SERVERS_OWN = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")
"""Metadata of a manifest that was read from a cluster; they belong to the object there."""
ANY_STORE = StorePlan(uri="file:///of-the-cluster")
"""Stands for the store, which the cluster's administrator names."""


@dataclass(frozen=True)
class Wanted:
    """An object to apply, as it is written. source: the file's name."""

    kind: str
    name: str
    namespace: str
    body: Doc
    source: str


@dataclass(frozen=True)
class Applied:
    """What became of it. change: created, configured or unchanged."""

    wanted: Wanted
    after: Doc
    change: str


def read(
    files: Sequence[ManifestFile], namespace: str, given: str | None, *, strict: bool
) -> list[Wanted]:
    """The objects of the files, Benchmarks first. Raises `Refused` with the faults of all files.

    namespace: of objects that name none; empty where it is not known yet. given: the namespace of
    the command line, if any.
    strict: refuse what this release does not know.
    """
    found: list[Wanted] = []
    faults: list[Fault] = []
    for file in files:
        try:
            if strict:
                parse_manifests(file.text, file.name)
            found += _wanted(file, namespace)
        except EvalrunError as error:
            faults += error.faults
    seen: dict[tuple[str, str, str], str] = {}
    for entry in found:
        key = (entry.kind, entry.namespace, entry.name)
        if key in seen:
            what = f"{entry.kind} {entry.name} also stands in {seen[key]}"
            faults.append(Fault(f"{entry.source}: metadata.name", what, "Give only one of them"))
        seen[key] = entry.source
        if given is not None and entry.namespace != given:
            what = f"it is {entry.namespace}, and -n says {given}"
            remedy = "Leave one of the two out"
            faults.append(Fault(f"{entry.source}: metadata.namespace", what, remedy))
    if faults:
        raise Refused(faults)
    kinds = list(RESOURCES)
    return sorted(found, key=lambda entry: kinds.index(entry.kind))


def _wanted(file: ManifestFile, namespace: str) -> list[Wanted]:
    if len(file.text.encode()) > MAX_MANIFEST_BYTES:
        raise Refused([Fault(file.name, "the file is larger than 4 MiB", "Is it a manifest?")])
    try:
        for node in yaml.compose_all(file.text, yaml.SafeLoader):
            check_size(node)
        entries = [entry for entry in yaml.safe_load_all(file.text) if entry is not None]
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file.name}, line {mark.line + 1}" if mark is not None else file.name
        what = f"not valid YAML: {getattr(error, 'problem', None) or 'it cannot be read'}"
        raise Refused([Fault(where, what, "Correct the line")]) from error
    return [_object(entry, file.name, namespace) for entry in entries]


def _object(entry: Any, source: str, namespace: str) -> Wanted:
    """An object without what belongs to the server; raises `Refused` when it is not one of ours."""
    if not isinstance(entry, dict) or entry.get("apiVersion") != API_VERSION:
        what = f"it is not an object of {API_VERSION}"
        raise Refused([Fault(source, what, f"Begin it with apiVersion: {API_VERSION}")])
    kind, metadata = entry.get("kind"), entry.get("metadata")
    if not isinstance(kind, str) or kind not in KINDS:
        raise Refused([Fault(f"{source}: kind", f"it is {kind!r}", f"Known: {', '.join(KINDS)}")])
    if not isinstance(metadata, dict):
        raise Refused([Fault(f"{source}: metadata", "it holds no name", "Add metadata.name")])
    name, own = metadata.get("name"), metadata.get("namespace")
    if not is_name(name):
        what = "the field is missing" if name is None else "no object can have this name"
        raise Refused([Fault(f"{source}: metadata.name", what, "Give it a name")])
    if own is not None and not is_namespace(own):
        what = "no namespace can have this name"
        raise Refused([Fault(f"{source}: metadata.namespace", what, "Correct it or leave it out")])
    kept = {key: value for key, value in metadata.items() if key not in SERVERS_OWN}
    place = str(kept.get("namespace") or namespace)
    body = {key: value for key, value in entry.items() if key != "status"}
    body["metadata"] = {**kept, "namespace": place}
    return Wanted(kind, kept["name"], place, body, source)


def check(wanted: Sequence[Wanted], cluster: Cluster) -> None:
    """Refuse what the operator would refuse whatever its policy: names, contradictions.

    Raises `Refused` with all faults. A Benchmark that no file holds is looked up in the cluster.
    """
    faults: list[Fault] = []
    given = {
        (entry.namespace, entry.name): Benchmark.model_validate(entry.body)
        for entry in wanted
        if entry.kind == "Benchmark"
    }
    runs = [entry for entry in wanted if entry.kind == "EvaluationRun"]
    for entry in runs:
        run = EvaluationRun.model_validate(entry.body)
        mine = {name: mark for (place, name), mark in given.items() if place == entry.namespace}
        missing = {
            mark.benchmark_ref.name
            for mark in run.spec.benchmarks
            if mark.benchmark_ref is not None and mark.benchmark_ref.name not in mine
        }
        try:
            mine |= _of_cluster(cluster, entry.namespace, missing)
        except ApiError as error:
            if error.code != 403:
                raise
            continue  # whoever may apply runs need not be allowed to read Benchmarks
        around = Surroundings(builtin_profiles(), builtin_index(), LAPTOP, mine)
        try:
            make_plan(run, "uid", ANY_STORE, around)
        except Refused as refused:
            prefix = f"{entry.name}: " if len(runs) > 1 else ""
            faults += [
                Fault(prefix + fault.where, fault.what, fault.remedy) for fault in refused.faults
            ]
    if faults:
        raise Refused(faults)


def _of_cluster(cluster: Cluster, namespace: str, names: Iterable[str]) -> Mapping[str, Benchmark]:
    found = {}
    for name in names:
        try:
            found[name] = Benchmark.model_validate(cluster.get(BENCHMARKS, namespace, name))
        except ApiError as error:
            if error.code != 404:
                raise
        except ValidationError as error:  # of another release: only the operator can judge it
            remedy = "Apply with --no-check: then the cluster's operator alone judges the run"
            what = (
                f"the cluster's Benchmark {name} is of another release and cannot be checked here"
            )
            raise Refused([Fault(f"Benchmark/{name}", what, remedy)]) from error
    return found


def apply(cluster: Cluster, entry: Wanted, *, force: bool, dry_run: bool) -> Applied:
    """Apply one object. Raises `ApiError`."""
    resource = RESOURCES[entry.kind]
    try:
        before = cluster.get(resource, entry.namespace, entry.name)
    except ApiError as error:
        if error.code != 404:
            raise
        before = None
    after = cluster.apply(resource, entry.namespace, entry.body, force=force, dry_run=dry_run)
    return Applied(entry, after, change(before, after, dry_run=dry_run))


def change(before: Doc | None, after: Doc, *, dry_run: bool) -> str:
    """Created, configured or unchanged.

    A dry run's version says nothing, so that contents are compared.
    """
    if before is None:
        return "created"
    if not dry_run:
        versions = [
            run_state.block(it, "metadata").get("resourceVersion") for it in (before, after)
        ]
        return "unchanged" if versions[0] == versions[1] else "configured"
    same = before.get("spec") == after.get("spec") and all(
        run_state.block(before, "metadata", key) == run_state.block(after, "metadata", key)
        for key in ("labels", "annotations")
    )
    return "unchanged" if same else "configured"


def tell(applied: Sequence[Applied], form: str, cluster: Cluster, *, dry_run: bool) -> None:
    """What became of each object, as kubectl says it."""
    if is_document(form):
        print_document(cluster_tables.listing_document(entry.after for entry in applied), form)
        return
    for entry in applied:
        answer().print(Text(_line(entry, dry_run=dry_run)), soft_wrap=True)
        if ended := run_state.outcome(entry.after):
            note = f"it has ended ({ended}) and is not started again; to run it anew, delete it: "
            options = cluster.options_for(entry.wanted.namespace)
            delete = invocation.here("cancel", entry.wanted.name, "--delete", *options)
            aside().print(Text.assemble(note, (delete, "bold")), soft_wrap=True)


def _line(applied: Applied, *, dry_run: bool) -> str:
    dry = " (server dry run)" if dry_run else ""
    kind = f"{applied.wanted.kind.lower()}.{API_GROUP}"
    return f"{kind}/{applied.wanted.name} {applied.change}{dry}"


def apply_all(
    cluster: Cluster, wanted: Sequence[Wanted], form: Format, *, force: bool, dry_run: bool
) -> list[Applied]:
    """Apply all in their order, telling each. Raises `ApiError` at the first refusal.

    Programs get their document at the end; where it does not come to that, people are told.
    """
    applied: list[Applied] = []
    try:
        for entry in wanted:
            applied.append(apply(cluster, entry, force=force, dry_run=dry_run))
            if not is_document(form):
                tell(applied[-1:], form, cluster, dry_run=dry_run)
    except (ApiError, KeyboardInterrupt):
        for one in applied if is_document(form) else ():
            aside().print(Text(_line(one, dry_run=dry_run)), soft_wrap=True)
        raise
    return applied


def run_to_follow(wanted: Sequence[Wanted]) -> Wanted:
    """The one run among what is applied. Raises `Refused` when there is not exactly one."""
    runs = [entry for entry in wanted if entry.kind == "EvaluationRun"]
    if len(runs) == 1:
        return runs[0]
    what = f"the files hold {len(runs)} EvaluationRuns, and it follows one"
    remedy = "Apply them without it, then follow each with evalrun watch or evalrun wait"
    raise Refused([Fault("--wait", what, remedy)])


def check_options(*, wait: bool, dry_run: bool, timeout: str | None) -> None:
    """Raise `Refused` for options that mean nothing together."""
    if wait and dry_run:
        what = "a dry run starts nothing that could be followed"
        raise Refused([Fault("--wait", what, "Leave out --wait or --dry-run")])
    if timeout is not None and not wait:
        what = "it is a limit for --wait, which is not given"
        raise Refused([Fault("--timeout", what, "Add --wait, or leave --timeout out")])
