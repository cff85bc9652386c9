"""Kubeconfigs, checked as far as a person can correct them.

A kubeconfig holds credentials, and where one is of the wrong form they may stand anywhere in it.
So nothing of it is ever repeated but the names of sections, fields and entries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_cli.plain_text import one_line

SECTIONS: Final = {"contexts": "context", "clusters": "cluster", "users": "user"}
"""Lists of a kubeconfig, and the field that holds an entry of each."""
FILES: Final = {
    "clusters": ("certificate-authority",),
    "users": ("client-certificate", "client-key", "tokenFile"),
}
"""Fields that name files, from the kubeconfig's folder."""


@dataclass(frozen=True)
class Entry:
    """A named entry. body: what its field holds; None where that is no object."""

    file: Path
    body: Mapping[str, Any] | None


@dataclass
class Kubeconfig:
    """Several files as one: of entries of one name the first counts, as with kubectl."""

    current: str = ""
    sections: dict[str, dict[str, Entry]] = field(
        default_factory=lambda: {section: {} for section in SECTIONS}
    )

    @property
    def contexts(self) -> Mapping[str, Entry]:
        """Contexts by their names."""
        return self.sections["contexts"]


def unusable(where: str | Path, what: str) -> EvalrunError:
    """The error for a kubeconfig that is there."""
    remedy = "Correct it, or name another with --kubeconfig (kubectl config view shows it)"
    told = f"the kubeconfig cannot be used: {what}"
    return fail(reasons.CLUSTER_UNAVAILABLE, str(where), told, remedy)


def read(files: Sequence[Path]) -> Kubeconfig:
    """The files. Raises `EvalrunError`."""
    found = Kubeconfig()
    for file in files:
        document = _document(file)
        current = document.get("current-context")
        if isinstance(current, str) and not found.current:
            found.current = current
        for section, key in SECTIONS.items():
            entries = document.get(section) or []
            if not isinstance(entries, list):
                raise unusable(file, f"{section} is no list")
            for position, entry in enumerate(entries):
                name = entry.get("name") if isinstance(entry, Mapping) else None
                if not isinstance(name, str):
                    raise unusable(file, f"{section}[{position}] has no name")
                body = entry.get(key)
                known = Entry(file, body if isinstance(body, Mapping) else None)
                found.sections[section].setdefault(name, known)
    return found


def _document(file: Path) -> Mapping[str, Any]:
    try:
        found = yaml.safe_load(file.read_bytes())
    except OSError as error:
        raise unusable(file, f"it cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark is not None else ""
        raise unusable(file, f"it is not valid YAML{line}") from None
    if not isinstance(found, Mapping):
        raise unusable(file, "it is no kubeconfig")
    return found


def chosen(config: Kubeconfig, context: str) -> Mapping[str, Any]:
    """A context that leads to a cluster, and to a user if it names one. Raises `EvalrunError`."""
    found = _body(config, "contexts", context)
    where = config.contexts[context].file
    for section in ("clusters", "users"):
        key = SECTIONS[section]
        name = found.get(key)
        if name is None and section == "users":
            continue
        if not isinstance(name, str) or name not in config.sections[section]:
            what = f"contexts {one_line(context)}: its {key} is not one of {section}"
            raise unusable(where, what)
        body = _body(config, section, name)
        file = config.sections[section][name].file
        if section == "clusters" and not isinstance(body.get("server"), str):
            raise unusable(file, f"clusters {one_line(name)}: there is no server in the entry")
        for absent in _absent_files(body, FILES[section], file.parent):
            what = f"{section} {one_line(name)}: the file that {absent} names does not exist"
            raise unusable(file, what)
    return found


def _body(config: Kubeconfig, section: str, name: str) -> Mapping[str, Any]:
    entry = config.sections[section][name]
    if entry.body is None:
        what = f"{section} {one_line(name)}: there is no {SECTIONS[section]} in the entry"
        raise unusable(entry.file, what)
    return entry.body


def _absent_files(body: Mapping[str, Any], fields: Sequence[str], folder: Path) -> list[str]:
    """Fields that name files which are not there; contents given in the entry itself come first."""
    return [
        name
        for name in fields
        if name in body
        and not {f"{name}-data", name.removesuffix("File")} & (body.keys() - {name})
        and not (isinstance(body[name], str) and (folder / body[name]).is_file())
    ]
