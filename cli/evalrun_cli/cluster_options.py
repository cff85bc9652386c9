"""Options of the commands that ask a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

PANEL = "Which cluster"

KubeconfigOption = Annotated[
    str | None,
    typer.Option(
        "--kubeconfig",
        metavar="FILE",
        help="Kubeconfig; KUBECONFIG or ~/.kube/config by default.",
        rich_help_panel=PANEL,
    ),
]
ContextOption = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="NAME",
        help="Context of the kubeconfig; the current one by default.",
        rich_help_panel=PANEL,
    ),
]
NamespaceOption = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAMESPACE",
        help="Namespace; the context's by default.",
        rich_help_panel=PANEL,
    ),
]
RunArgument = Annotated[str, typer.Argument(metavar="NAME", help="The run.", show_default=False)]
TimeoutOption = Annotated[
    str | None,
    typer.Option(
        "--timeout",
        metavar="DURATION",
        help="Longest wait, such as 90s, 10m or 2h; for ever by default. 0 only looks. When it is "
        "over the exit code is 124, and the run goes on.",
    ),
]
