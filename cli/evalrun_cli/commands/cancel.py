"""`evalrun cancel` and `evalrun resume`: stop a run of a cluster, and go on with it."""

from __future__ import annotations

from typing import Annotated

import typer

from evalrun_api.errors import Fault, Refused
from evalrun_cli import cluster_options, options
from evalrun_cli.output import Format, is_document


def cancel(
    name: cluster_options.RunArgument,
    delete: Annotated[
        bool,
        typer.Option(
            "--delete", help="Delete the run instead, finished or not; its answers stay stored."
        ),
    ] = False,
    kubeconfig: cluster_options.KubeconfigOption = None,
    context: cluster_options.ContextOption = None,
    namespace: cluster_options.NamespaceOption = None,
    output: options.FormatOption = Format.TABLE,
) -> None:
    """Stop a run of a cluster. Accelerators are given back, and no answer is lost.

    It sets spec.suspend; evalrun resume goes on where the run stopped.

    Examples:

    - `evalrun cancel easy-vqa`
    - `kubectl evalrun cancel easy-vqa --delete`
    """
    if delete and is_document(output):
        what = "a deleted run has no document to show"
        raise Refused([Fault("--output", what, "Leave it out with --delete")])
    from evalrun_cli.commands.connecting import connected

    cluster = connected(kubeconfig, context, namespace)
    from evalrun_cli import cancelling

    if delete:
        cancelling.delete(cluster, name)
    else:
        cancelling.cancel(cluster, name, output)


def resume(
    name: cluster_options.RunArgument,
    kubeconfig: cluster_options.KubeconfigOption = None,
    context: cluster_options.ContextOption = None,
    namespace: cluster_options.NamespaceOption = None,
    output: options.FormatOption = Format.TABLE,
) -> None:
    """Go on with a run of a cluster that was cancelled (suspended).

    Execution fields such as spec.parallelism may be changed before, while it is suspended.

    Examples:

    - `evalrun resume easy-vqa`
    """
    from evalrun_cli.commands.connecting import connected

    cluster = connected(kubeconfig, context, namespace)
    from evalrun_cli import cancelling

    cancelling.resume(cluster, name, output)
