"""`evalrun wait`: for scripts and pipelines."""

from __future__ import annotations

from typing import Annotated

import typer

from evalrun_cli import cluster_options, options
from evalrun_cli.output import WideFormat
from evalrun_cli.verdicts import Goal


def wait(
    name: cluster_options.RunArgument,
    goal: Annotated[
        Goal,
        typer.Option(
            "--for",
            help="What to wait for. It ends with 1 as soon as that can no longer come.",
            case_sensitive=False,
        ),
    ] = Goal.FINISHED,
    timeout: cluster_options.TimeoutOption = None,
    kubeconfig: cluster_options.KubeconfigOption = None,
    context: cluster_options.ContextOption = None,
    namespace: cluster_options.NamespaceOption = None,
    output: options.WideFormatOption = WideFormat.TABLE,
) -> None:
    """Wait for a run of a cluster, for scripts: one line at the end, and an exit code.

    0: what was waited for has come (finished means completed, with every gate passed; Complete
    does not look at gates). 1: the run ended otherwise. 124: the time is over. 2 and 3: the run is
    not there, or the cluster cannot be asked.

    Examples:

    - `evalrun wait easy-vqa --timeout 2h && ./release.sh`
    - `kubectl evalrun wait easy-vqa --for Suspended --timeout 5m`
    """
    from evalrun_cli import durations
    from evalrun_cli.commands.connecting import connected

    longest = durations.parse(timeout, "--timeout") if timeout is not None else None
    cluster = connected(kubeconfig, context, namespace)
    from evalrun_cli import watching

    raise typer.Exit(watching.wait(cluster, name, goal, longest, output))
