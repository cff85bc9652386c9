"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from evalrun_cli.output import JSON_KEY, Format, WideFormat

STORE = "Where runs are stored"
DATA = "Where weights and data are"


def _remember(context: typer.Context, value: str) -> str:
    """Keep the form, so that an error before or in the command is told in that form too."""
    context.meta[JSON_KEY] = value
    return value


ManifestsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="MANIFEST",
        help="Files with an EvaluationRun and the Benchmarks that it refers to; - is stdin.",
        show_default=False,
    ),
]
VolumeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--volume",
        metavar="CLAIM=DIR",
        help="Folder that stands for a claim. Without it: the folder of the claim's name beside "
        "the manifest that uses the claim.",
        rich_help_panel=DATA,
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URI",
        help="s3://BUCKET/PREFIX, file:///FOLDER or a folder.",
        rich_help_panel=STORE,
    ),
]
EndpointOption = Annotated[
    str | None,
    typer.Option(
        "--s3-endpoint",
        metavar="URL",
        help="Address of the S3 service, if it is not AWS.",
        rich_help_panel=STORE,
    ),
]
RegionOption = Annotated[
    str | None,
    typer.Option(
        "--s3-region", metavar="REGION", help="Region of the bucket.", rich_help_panel=STORE
    ),
]
NameOption = Annotated[
    str | None,
    typer.Option(
        "--name", metavar="RUN", help="Which EvaluationRun, where the files hold several."
    ),
]
NamespaceOption = Annotated[
    str,
    typer.Option("--namespace", "-n", metavar="NAMESPACE", help="Namespace of the runs."),
]
FreshOption = Annotated[
    bool,
    typer.Option("--fresh", help="Compute every answer anew (cache.reuseAnswers: Never)."),
]
ResumeOption = Annotated[
    str | None,
    typer.Option(
        "--resume",
        metavar="UID",
        help="Go on with one unfinished attempt, by its uid or the beginning of it: for a run that "
        "was started with --fresh.",
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        min=1,
        help="A trial: only the first N documents of every task, whatever the manifest says.",
    ),
]
FormatOption = Annotated[
    Format,
    typer.Option(
        "--output", "-o", callback=_remember, help="A table for people, a document for programs."
    ),
]
WideFormatOption = Annotated[
    WideFormat,
    typer.Option(
        "--output",
        "-o",
        callback=_remember,
        help="A table for people, with more columns, or a document for programs.",
    ),
]
