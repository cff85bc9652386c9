"""`evalrun list`: the runs of a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from evalrun_cli import cluster_options, options
from evalrun_cli.output import WideFormat


def list_runs(
    everywhere: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="The runs of all namespaces.")
    ] = False,
    selector: Annotated[
        str | None,
        typer.Option("--selector", "-l", metavar="LABELS", help="Only runs with these labels."),
    ] = None,
    kubeconfig: cluster_options.KubeconfigOption = None,
    context: cluster_options.ContextOption = None,
    namespace: cluster_options.NamespaceOption = None,
    output: options.WideFormatOption = WideFormat.TABLE,
) -> None:
    """List the runs of a cluster, the newest first: phase, progress, time left, score.

    (stalled) after a phase means that the run waits for a person; evalrun watch says for what.

    Examples:

    - `evalrun list -A -o wide`
    - `kubectl evalrun list -n team-vision -l release=2026.3`
    - `evalrun list -o json | jq -r '.items[] | [.metadata.name, .status.phase] | @tsv'`
    """
    from evalrun_cli.commands.connecting import connected

    cluster = connected(kubeconfig, context, namespace)
    from evalrun_cli import cluster_listing

    cluster_listing.show_runs(cluster, output, everywhere=everywhere, selector=selector)
