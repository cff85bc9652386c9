"""Options of the commands that ask a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from evalrun_api.errors import Fault, Refused
from evalrun_cli.object_names import is_name, is_namespace


def run_name(text: str | None) -> str | None:
    """A name that an object can have. Raises `Refused`: nothing is asked about another one."""
    if text is None or is_name(text):
        return text
    remedy = "Lowercase letters, digits, - and . make a name; evalrun list -A lists the runs"
    raise Refused([Fault("NAME", f"{text!r} is not the name of a run", remedy)])


def namespace_name(text: str | None) -> str | None:
    """A name that a namespace can have. Raises `Refused`."""
    if text is None or is_namespace(text):
        return text
    what = f"{text!r} is not the name of a namespace"
    remedy = "Lowercase letters, digits and - make a name; leave -n out for the context's own"
    raise Refused([Fault("--namespace", what, remedy)])


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
        callback=namespace_name,
        rich_help_panel=PANEL,
    ),
]
RunArgument = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The run.", show_default=False, callback=run_name),
]
TimeoutOption = Annotated[
    str | None,
    typer.Option(
        "--timeout",
        metavar="DURATION",
        help="Longest wait, such as 90s, 10m or 2h; for ever by default. 0 only looks. When it is "
        "over the exit code is 124, and the run goes on.",
    ),
]
