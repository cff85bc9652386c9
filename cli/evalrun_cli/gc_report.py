"""Running `evalrun gc` and telling what it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.text import Text

from evalrun_cli import archives, collecting, durations, garbage, spools
from evalrun_cli.gc_places import GcPlace
from evalrun_cli.listing import say_where
from evalrun_cli.output import WideFormat, answer, aside, is_document, plain_table, print_document
from evalrun_runner.local import Store, StoredObject

SHORT_DIGEST = 12
MAX_NAMES = 3


@dataclass
class GcReport:
    """What was found and, where that was asked for, deleted."""

    store: Store
    now: datetime
    verdicts: list[garbage.Verdict] = field(default_factory=list)
    packed: list[archives.Archive] = field(default_factory=list)
    leftovers: list[StoredObject] = field(default_factory=list)
    spool: list[Path] = field(default_factory=list)
    waiting: int = 0
    damaged: list[str] = field(default_factory=list)
    delete: bool = False
    deleted: set[str] = field(default_factory=set)
    freed: int = 0

    @property
    def garbage(self) -> list[garbage.Verdict]:
        """What may be deleted."""
        return [verdict for verdict in self.verdicts if verdict.is_garbage]

    @property
    def unused(self) -> list[archives.Archive]:
        """Packed documents that may be deleted."""
        return [archive for archive in self.packed if archive.is_garbage]


def collect(
    place: GcPlace, spool: Path, *, all_namespaces: bool, older_than: str | None, delete: bool
) -> GcReport:
    """Look, and delete what is garbage if that was asked for. Raises `EvalrunError`.

    spool: of this machine.
    """
    limit = None
    if older_than is not None:
        limit = timedelta(seconds=durations.parse(older_than, "--older-than"))
    store = place.store
    report = GcReport(store, datetime.now(UTC), delete=delete)
    say_where(store)
    names = [place.namespace]
    if all_namespaces:
        names = sorted({*collecting.namespaces(store), *archives.namespaces(store)})
    for name in names:
        findings = collecting.look(store, name, report.now, limit)
        report.verdicts += findings.verdicts
        report.damaged += map(str, findings.damaged)
        for verdict in findings.garbage if delete else ():
            _delete(report, findings, verdict)
        found, damaged = archives.look(store, name, report.now)
        report.packed += found
        report.damaged += map(str, damaged)
    for archive in report.unused if delete else ():
        _delete_archive(report, archive)
    report.leftovers = collecting.leftovers(store, report.now)
    for left in report.leftovers if delete else ():
        store.delete(left.key)
        report.freed += left.bytes
    report.spool = spools.leftovers(spool, report.now, collecting.LEFTOVER_AGE)
    report.waiting = len(spools.waiting(spool))
    for path in report.spool if delete else ():
        spools.remove(path)
    return report


def _delete(report: GcReport, findings: collecting.Findings, verdict: garbage.Verdict) -> None:
    def freed(size: int) -> None:
        report.freed += size

    if collecting.delete(report.store, findings, verdict, freed):
        report.deleted.add(verdict.answers.digest)
    else:
        what = f"{verdict.answers.digest[:SHORT_DIGEST]} is in use again and was kept"
        aside().print(what, style="yellow", markup=False)


def _delete_archive(report: GcReport, archive: archives.Archive) -> None:
    def freed(size: int) -> None:
        report.freed += size

    if archives.delete(report.store, archive, report.now, freed):
        report.deleted.add(archive.name)
    else:
        what = f"packed documents {archive.name[:SHORT_DIGEST]} are in use again and were kept"
        aside().print(what, style="yellow", markup=False)


def show(report: GcReport, form: WideFormat) -> None:
    """Tell it as a table or as a document."""
    if is_document(form):
        print_document(document(report), form)
        return
    wide = form is WideFormat.WIDE
    shown = report.verdicts if wide else report.garbage
    if shown:
        _print_table(shown, report.now, wide=wide)
    for archive in report.packed if wide else report.unused:
        size, names = amount(archive.bytes), some(archive.runs)
        why = f"used by {names}" if archive.runs else "no run refers to them"
        told = f"packed documents {archive.name[:SHORT_DIGEST]}, {size}: {why}"
        answer().print(told, markup=False, soft_wrap=True)
    if report.leftovers:
        size = amount(sum(left.bytes for left in report.leftovers))
        count = len(report.leftovers)
        answer().print(
            f"and {count} half-written file{'s' * (count > 1)} of killed processes, {size}"
        )
    if report.spool:
        told = f"{len(report.spool)} empty files or folders in this machine's spool"
        answer().print(told, soft_wrap=True)
    if report.waiting:
        told = f"answers wait in this machine's spool ({report.waiting} files): run theirs again"
        aside().print(told, soft_wrap=True)
    for damage in report.damaged:
        aside().print(f"damaged: {damage}", style="red", markup=False, soft_wrap=True)
    aside().print(summary(report), markup=False, soft_wrap=True)


def summary(report: GcReport) -> str:
    """The last line for people."""
    found = len(report.garbage) + len(report.unused)
    kept = len(report.verdicts) + len(report.packed) - found
    rest = f"; {kept} kept (-o wide says why)" if kept else ""
    if report.delete:
        return f"{amount(report.freed)} deleted{rest}"
    size = sum(verdict.answers.bytes for verdict in report.garbage)
    size += sum(archive.bytes for archive in report.unused)
    size += sum(left.bytes for left in report.leftovers)
    if not found and not report.leftovers and not report.spool:
        return f"there is nothing to delete{rest}"
    return f"{amount(size)} can be deleted: add --delete{rest}"


def document(report: GcReport) -> dict[str, Any]:
    """It for programs."""
    return {
        "store": report.store.uri(""),
        "deleted": report.delete,
        "answers": [
            {
                "namespace": verdict.answers.namespace,
                "digest": verdict.answers.digest,
                "benchmarks": list(verdict.answers.benchmarks),
                "objects": len(verdict.answers.keys),
                "bytes": verdict.answers.bytes,
                "lastUsed": verdict.last_used.isoformat(),
                "runs": [{"name": use.run.name, "uid": use.run.uid} for use in verdict.uses],
                "garbage": verdict.is_garbage,
                "deleted": verdict.answers.digest in report.deleted,
                "why": verdict.why,
            }
            for verdict in report.verdicts
        ],
        "data": [
            {
                "namespace": archive.namespace,
                "archive": archive.name,
                "objects": len(archive.objects),
                "bytes": archive.bytes,
                "modified": archive.modified.isoformat(),
                "runs": list(archive.runs),
                "garbage": archive.is_garbage,
                "deleted": archive.name in report.deleted,
            }
            for archive in report.packed
        ],
        "leftovers": [
            {"key": left.key, "bytes": left.bytes, "modified": left.modified.isoformat()}
            for left in report.leftovers
        ],
        "spool": {"leftovers": list(map(str, report.spool)), "waiting": report.waiting},
        "damaged": report.damaged,
        "freedBytes": report.freed,
    }


def _print_table(verdicts: Sequence[garbage.Verdict], now: datetime, *, wide: bool) -> None:
    table = plain_table()
    for title in ("DIGEST", "BENCHMARKS", "SIZE", "LAST USED", "RUNS", "WHY"):
        right = title in ("SIZE", "LAST USED")
        table.add_column(title, justify="right" if right else "left", no_wrap=right or wide)
    if wide:
        table.add_column("GARBAGE")
    for verdict in verdicts:
        cells = [
            verdict.answers.digest[:SHORT_DIGEST],
            some(verdict.answers.benchmarks),
            amount(verdict.answers.bytes),
            durations.age((now - verdict.last_used).total_seconds()),
            some(sorted({use.run.name for use in verdict.uses})),
            verdict.why,
        ]
        if wide:
            cells.append("yes" if verdict.is_garbage else "no")
        table.add_row(*map(Text, cells))
    answer(wide=wide).print(table)


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    if len(names) <= MAX_NAMES:
        return ", ".join(names) or "-"
    return f"{', '.join(names[:MAX_NAMES])} and {len(names) - MAX_NAMES} more"


def amount(size: int) -> str:
    """Bytes for people."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
