"""Tables of results, as rows (for tests and documents) and as rich draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evalrun_api.judge import JudgeUsage
from evalrun_api.manifest import Circumstances, Manifest
from evalrun_api.status import Score
from evalrun_cli.output import clock, plain_table, print_path

SHORT_UID = 8
MAX_SAMPLE_LINES = 5


def number(text: str | None) -> str:
    """A score for people: four decimals, fewer where it is large; as it is when not a number."""
    if text is None:
        return ""
    try:
        value = float(text)
    except ValueError:
        return text
    if value != value or abs(value) == float("inf"):
        return text
    if value != 0 and abs(value) < 0.0001:
        return f"{value:.2e}"
    return f"{value:.2f}" if abs(value) >= 100 else f"{value:.4f}"


def score_row(score: Score) -> list[str]:
    """Benchmark, metric, value, standard error, documents, invalid answers."""
    metric = score.metric if score.filter == "none" else f"{score.metric} ({score.filter})"
    if score.higher_is_better is not None:
        metric += " ↑" if score.higher_is_better else " ↓"
    error = f"± {number(score.stderr)}" if score.stderr else ""
    count = f"{score.n:,}" if score.n is not None else ""
    return [score.benchmark, metric, number(score.value), error, count, f"{score.invalid:,}"]


def score_table(scores: Sequence[Score]) -> Table:
    """A run's scores; a benchmark is named once, invalid answers only where there are any."""
    table = plain_table()
    table.add_column("BENCHMARK", overflow="fold", min_width=12)
    table.add_column("METRIC", overflow="fold", min_width=12)
    for title in ("VALUE", "STDERR", "DOCS"):
        table.add_column(title, justify="right", no_wrap=True)
    with_invalid = any(score.invalid for score in scores)
    if with_invalid:
        table.add_column("INVALID", justify="right", no_wrap=True, style="red")
    before = ""
    for score in scores:
        row = score_row(score)
        name = "" if row[0] == before else row[0]
        before = row[0]
        cells = [name, *row[1:5]] + ([row[5]] if with_invalid else [])
        table.add_row(*(Text(cell) for cell in cells))
    return table


def answers_line(
    reused: int, computed: int, invalid: int = 0, errors: Mapping[str, int] | None = None
) -> str:
    """How many answers were there before, how many were computed, and how many are none.

    errors: the invalid ones by class.
    """
    text = f"{computed:,} answers computed, {reused:,} reused"
    if not invalid:
        return text
    classes = ", ".join(f"{count:,} {kind}" for kind, count in sorted((errors or {}).items()))
    return f"{text}, {invalid:,} invalid" + (f" ({classes})" if classes else "")


def circumstances_line(found: Circumstances) -> str:
    """How answers were made otherwise than planned; empty where all went as planned."""
    parts = []
    if found.smaller_batch:
        parts.append(f"{found.smaller_batch:,} in a smaller batch for want of memory")
    if found.asked_again:
        parts.append(f"{found.asked_again:,} only when asked again")
    if len(found.devices) > 1:
        parts.append("from " + " and ".join(found.devices))
    return "answers: " + ", ".join(parts) if parts else ""


def judge_line(judge: JudgeUsage) -> str:
    """What judging took."""
    text = f"judge: {judge.requests:,} requests"
    if judge.recorded:
        text += f", {judge.recorded:,} verdicts from the journal"
    if judge.failures:
        text += f", {judge.failures:,} of the requests failed and were sent again"
    return f"{text}, cost {judge.cost:.4f}" if judge.cost else text


def print_result(
    console: Console, manifest: Manifest, files: Mapping[str, Any], took: float | None = None
) -> None:
    """A finished run: its scores, where its answers came from, where its files are.

    took: wall seconds, where the run has just ended.
    """
    console.print(score_table(manifest.scores))
    console.print()
    answers = manifest.answers
    errors = {str(kind): count for kind, count in answers.errors.items() if count}
    line = answers_line(answers.reused, answers.computed, answers.invalid, errors)
    if took is not None:
        line += f", in {clock(took)}"
    console.print(f"{line}; determinism: {manifest.provenance.determinism}")
    if otherwise := circumstances_line(manifest.provenance.circumstances):
        console.print(otherwise, markup=False)
    if manifest.judge is not None:
        console.print(judge_line(manifest.judge), markup=False)
    if not manifest.trusted:
        warning = "NOT TRUSTED: more invalid answers than integrity.maxInvalidFraction allows"
        console.print(warning, style="bold red")
    for label in ("results", "samples"):
        entries = files[label]
        for entry in entries[:MAX_SAMPLE_LINES]:
            print_path(console, label, entry)
        if len(entries) > MAX_SAMPLE_LINES:
            more = f"and {len(entries) - MAX_SAMPLE_LINES} more; the manifest names all"
            print_path(console, label, more)
    print_path(console, "manifest", str(files["manifest"]))


def run_row(manifest: Manifest) -> dict[str, str]:
    """A finished run in a listing, by column."""
    first = manifest.scores[0] if manifest.scores else None
    headline = f"{number(first.value)} {first.benchmark} {first.metric}" if first else ""
    return {
        "NAME": manifest.run.name,
        "UID": manifest.run.uid,
        "COMPLETED": f"{manifest.completed_at.astimezone():%Y-%m-%d %H:%M}",
        "TRUSTED": "yes" if manifest.trusted else "NO",
        "ANSWERS": f"{manifest.answers.total:,}",
        "SCORE": headline,
        "COMPUTED": f"{manifest.answers.computed:,}",
        "DETERMINISM": manifest.provenance.determinism,
        "LMMS-EVAL": manifest.provenance.versions.get("lmms-eval", ""),
        "MODEL": manifest.provenance.model_revision,
    }


NARROW = ("NAME", "UID", "COMPLETED", "TRUSTED", "ANSWERS", "SCORE")


def run_table(manifests: Sequence[Manifest], *, wide: bool) -> Table:
    """Finished runs, the last one first."""
    table = plain_table()
    rows = [run_row(manifest) for manifest in manifests]
    columns = [name for name in (rows[0] if rows else NARROW) if wide or name in NARROW]
    for name in columns:
        right = name in ("ANSWERS", "COMPUTED")
        table.add_column(
            name, justify="right" if right else "left", no_wrap=wide or name != "SCORE"
        )
    for row in rows:
        if not wide:
            row["UID"] = row["UID"][:SHORT_UID]
        table.add_row(*(Text(row[name]) for name in columns))
    return table


def print_provenance(console: Console, manifest: Manifest) -> None:
    """What the scores rest on, and where the time went."""
    print_path(console, "model", manifest.provenance.model_revision)
    for package, version in sorted(manifest.provenance.versions.items()):
        print_path(console, "version", f"{package} {version}")
    print_path(console, "answers", manifest.answers_digest)
    spent = ", ".join(
        f"{stage} {seconds} s" for stage, seconds in manifest.seconds.document().items() if seconds
    )
    print_path(console, "time", spent or "less than a second")
