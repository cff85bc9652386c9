"""The facts that `checkup` judges, collected from this machine."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evalrun_api.errors import EvalrunError
from evalrun_api.index import builtin_index
from evalrun_cli import checkup
from evalrun_cli.checkup import Check
from evalrun_cli.destination import StoreChoice, destination
from evalrun_cli.exits import Exit
from evalrun_cli.output import Format, answer, is_document, print_document
from evalrun_cli.supervision import cache_folder
from evalrun_runner.local import open_store

DISTRIBUTION = "lmms-eval-operator"


def report(choice: StoreChoice, form: Format) -> int:
    """Check the machine, print the findings and return the command's exit code."""
    found = list(checks(choice))
    failed = any(check.level == "fail" for check in found)
    if is_document(form):
        document = {"ok": not failed, "checks": [check.document() for check in found]}
        print_document(document, form)
    else:
        _print(answer(), found)
    return Exit.FAILED if failed else Exit.DONE


def checks(choice: StoreChoice) -> list[Check]:
    """All findings."""
    home, environment = Path.home(), os.environ
    cache = cache_folder(environment, home)
    hub = Path(environment.get("HF_HOME", home / ".cache" / "huggingface"))
    listed = _gpus()
    major, minor, micro = sys.version_info[:3]
    return [
        checkup.python((major, minor, micro)),
        *checkup.packages(checkup.extra_of(_requirements(), "runner"), _version),
        checkup.lmms_eval(_version("lmms-eval"), builtin_index().lmms_eval),
        checkup.memory(*_memory()),
        checkup.disk("work folder", str(cache), _free(cache)),
        checkup.hub_cache(str(hub), hub.is_dir(), os.access(_existing(hub), os.W_OK)),
        checkup.gpus(listed),
        checkup.threads(environment.get("OMP_NUM_THREADS"), bool(listed)),
        *_store(choice),
    ]


def _requirements() -> list[str]:
    try:
        return importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _memory() -> tuple[int, int]:
    """Total and available bytes; what the kernel could free counts as available."""
    values = {}
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, _, rest = line.partition(":")
            values[name] = int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return total, total
    return values["MemTotal"], values.get("MemAvailable", values["MemFree"])


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _free(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(_existing(folder)).free
    except OSError:
        return None


def _gpus() -> list[str] | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)  # noqa: S603 (a fixed command)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _store(choice: StoreChoice) -> list[Check]:
    try:
        target = destination(choice, None, {}, Path.cwd())
        parts = urlsplit(target.store.uri)
        if parts.scheme == "file":
            folder = Path(unquote(parts.path))
            space = checkup.disk("store's disk", str(folder), _free(folder))
            if target.origin == "default" and not folder.exists():
                return [space, _unmade(folder)]
        else:
            space = None
        store = open_store(target.store)
        store.check()
    except EvalrunError as error:
        return checkup.store_error(error)
    written = Check("store", "ok", f"{target.store.uri} can be listed and written")
    return [space, written] if space else [written]


def _unmade(folder: Path) -> Check:
    if os.access(_existing(folder), os.W_OK):
        return Check("store", "ok", f"{folder} (made by the first run)")
    remedy = "Go to a folder of yours, or name a store: --store"
    return Check("store", "fail", f"{folder} cannot be made", remedy)


def _print(console: Console, found: list[Check]) -> None:
    marks = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in found:
        finding = Text(check.finding)
        if check.remedy:
            finding.append(f"\n{check.remedy}", style=marks[check.level][1])
        table.add_row(Text(*marks[check.level]), Text(check.name), finding)
    console.print(table)
