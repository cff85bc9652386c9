"""`evalrun watch`: a run of a cluster, live."""

from __future__ import annotations

import typer

from evalrun_cli import cluster_options, options
from evalrun_cli.output import WideFormat


def watch(
    name: cluster_options.RunArgument,
    timeout: cluster_options.TimeoutOption = None,
    kubeconfig: cluster_options.KubeconfigOption = None,
    context: cluster_options.ContextOption = None,
    namespace: cluster_options.NamespaceOption = None,
    output: options.WideFormatOption = WideFormat.TABLE,
) -> None:
    """Show a run of a cluster until it ends: progress, what it waits for, then its scores.

    Without a terminal, a line is written whenever something has changed. Ctrl-C leaves the run
    alone. The exit code is 0 when the run completed, and 1 when it failed or a gate did not pass.

    Examples:

    - `evalrun watch easy-vqa`
    - `kubectl evalrun watch easy-vqa -n team-vision -o json > run.json`
    """
    from evalrun_cli import durations
    from evalrun_cli.commands.connecting import connected

    longest = durations.parse(timeout, "--timeout") if timeout is not None else None
    cluster = connected(kubeconfig, context, namespace)
    from evalrun_cli import watching

    raise typer.Exit(watching.watch(cluster, name, longest, output))
