"""What a run can name: model profiles and benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import yaml
from rich.text import Text

from evalrun_api import API_VERSION
from evalrun_api.errors import Fault, Refused
from evalrun_api.index import NameIndex, builtin_index, near
from evalrun_api.profiles import ModelProfile, builtin_profiles
from evalrun_cli.output import Format, answer, aside, is_document, plain_table, print_document

EXAMPLE_BENCHMARK = {
    "image": "mme",
    "audio": "librispeech_test_clean",
    "video": "videomme",
    "text": "mmlu",
}
"""A benchmark of each modality for the worked manifests; the first that a profile has is taken."""


def profile_row(profile: ModelProfile) -> list[str]:
    """Name, modalities, backend, accelerators by size, packages to install."""
    sizes = ", ".join(f"≤{row.up_to}: {row.accelerators}" for row in profile.sizes)
    if profile.endpoint:
        sizes = "none (endpoint)"
    needs = ", ".join(requirement.split(" @ ")[0] for requirement in profile.requires)
    return [profile.name, ", ".join(profile.modalities), profile.backend, sizes, needs]


def show_profiles(form: Format) -> None:
    """All profiles."""
    profiles = builtin_profiles()
    if is_document(form):
        print_document([profile.document() for profile in profiles.values()], form)
        return
    table = plain_table()
    for title in ("PROFILE", "ANSWERS", "BACKEND", "GPUS BY SIZE", "NEEDS"):
        table.add_column(title, no_wrap=title in ("PROFILE", "BACKEND"), overflow="fold")
    for profile in profiles.values():
        table.add_row(*(Text(cell) for cell in profile_row(profile)))
    answer().print(table)


def worked_manifest(profile: ModelProfile, index: NameIndex) -> dict[str, Any]:
    """A whole EvaluationRun for a profile."""
    known = index.benchmarks
    benchmark = next(
        (
            EXAMPLE_BENCHMARK[modality]
            for modality in profile.modalities
            if EXAMPLE_BENCHMARK.get(modality) in known
        ),
        "mme",
    )
    return {
        "apiVersion": API_VERSION,
        "kind": "EvaluationRun",
        "metadata": {"name": profile.name.replace("_", "-").lower()},
        "spec": {
            "model": {"profile": profile.name, "source": profile.example},
            "benchmarks": [{"name": benchmark}],
        },
    }


def _written(profile: ModelProfile) -> dict[str, Any]:
    """A profile as its file has it."""
    return profile.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def show_profile(name: str, form: Format) -> None:
    """One profile with a manifest; raises `Refused` when there is none of the name."""
    profiles: Mapping[str, ModelProfile] = builtin_profiles()
    profile = profiles.get(name)
    if profile is None:
        what = f"there is no profile {name!r}; {near(name, profiles)}"
        raise Refused([Fault("PROFILE", what, f"Known profiles: {', '.join(sorted(profiles))}")])
    manifest = worked_manifest(profile, builtin_index())
    if is_document(form):
        print_document({"profile": profile.document(), "manifest": manifest}, form)
        return
    described = yaml.safe_dump(_written(profile), sort_keys=False, allow_unicode=True)
    written = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True)
    console = answer()
    console.print(described, markup=False, soft_wrap=True)
    console.print("# A manifest that works: save it as run.yaml, then evalrun plan run.yaml")
    console.print(written.rstrip(), markup=False, soft_wrap=True)


def matching(index: NameIndex, pattern: str | None) -> list[tuple[str, str]]:
    """Names and their kinds; case does not count. A name of two kinds stands once, as the first."""
    wanted = (pattern or "").lower()
    kinds = {"group": index.groups, "tag": index.tags, "task": index.tasks}
    found: dict[str, str] = {}
    for kind, names in kinds.items():
        for name in names:
            low = name.lower()
            glob = "*" in wanted or "?" in wanted
            if fnmatchcase(low, wanted) if glob else wanted in low:
                found.setdefault(name, kind)
    return sorted(found.items(), key=lambda entry: entry[0].lower())


def show_benchmarks(pattern: str | None, form: Format) -> None:
    """The names that match; raises `Refused` when none does."""
    index = builtin_index()
    found = matching(index, pattern)
    if not found:
        what = f"lmms-eval {index.lmms_eval} has no name like {pattern!r}"
        hint = near(pattern or "", index.benchmarks)
        raise Refused([Fault("PATTERN", f"{what}; {hint}", "Try a shorter part of the name")])
    if is_document(form):
        document = {
            "lmmsEval": index.lmms_eval,
            "benchmarks": [{"name": name, "kind": kind} for name, kind in found],
        }
        print_document(document, form)
        return
    table = plain_table()
    table.add_column("NAME", no_wrap=True)
    table.add_column("KIND")
    for name, kind in found:
        table.add_row(Text(name), kind)
    answer().print(table)
    counts = {kind: sum(1 for _, its in found if its == kind) for kind in ("task", "group", "tag")}
    told = ", ".join(f"{count:,} {kind}s" for kind, count in counts.items() if count)
    aside().print(f"{told} of lmms-eval {index.lmms_eval}", style="dim")
