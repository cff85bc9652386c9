"""`evalrun logs`: what the pods of a run write."""

from __future__ import annotations

from typing import Annotated

import typer

from evalrun_cli import cluster_options
from evalrun_cli.pod_logs import StepChoice


def logs(
    name: cluster_options.RunArgument,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            "-f",
            help="Go on until the run ends, from step to step and over pods that are replaced. "
            "The exit code is then the run's, as of evalrun watch.",
        ),
    ] = False,
    step: Annotated[
        StepChoice | None, typer.Option("--step", help="Only the pods of this step.")
    ] = None,
    shard: Annotated[
        int | None, typer.Option("--shard", metavar="N", min=0, help="Only this shard.")
    ] = None,
    all_attempts: Annotated[
        bool,
        typer.Option(
            "--all-attempts", help="Also pods that were replaced, as far as they are still there."
        ),
    ] = False,
    tail: Annotated[
        int | None,
        typer.Option("--tail", metavar="N", min=1, help="Only the last N lines of each pod."),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="The lines as they are: JSON, one object a line.")
    ] = False,
    kubeconfig: cluster_options.KubeconfigOption = None,
    context: cluster_options.ContextOption = None,
    namespace: cluster_options.NamespaceOption = None,
) -> None:
    """Show the logs of a run's pods: prepare, answer and score, in this order.

    Where several pods write, each line begins with its step and shard. Times are UTC. With -f, 32
    pods are followed at the same time, and others as these end.

    Examples:

    - `evalrun logs easy-vqa -f`
    - `evalrun logs easy-vqa --step answer --shard 3 --tail 50`
    - `kubectl evalrun logs easy-vqa --raw | jq -r 'select(.level == "error") | .message'`
    """
    from evalrun_cli.commands.connecting import connected

    cluster = connected(kubeconfig, context, namespace)
    from evalrun_cli import log_reading

    choice = log_reading.LogChoice(step, shard, all_attempts, tail, raw)
    read = log_reading.follow if follow else log_reading.show
    raise typer.Exit(read(cluster, name, choice))
