"""`evalrun apply`: a manifest becomes a run of a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalrun_cli import cluster_options, options
from evalrun_cli.output import Format, WideFormat, is_document


def apply(
    manifests: options.ManifestsArgument,
    wait: Annotated[
        bool,
        typer.Option("--wait", "-w", help="Follow the run to its end, as evalrun watch does."),
    ] = False,
    timeout: cluster_options.TimeoutOption = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Let the API server judge the manifests, and change nothing."
        ),
    ] = False,
    no_check: Annotated[
        bool,
        typer.Option(
            "--no-check",
            help="Send the manifests as they are. For a cluster of another release: fields and "
            "names that this release does not know are then judged there alone.",
        ),
    ] = False,
    force_conflicts: Annotated[
        bool,
        typer.Option("--force-conflicts", help="Take over fields that somebody else has set."),
    ] = False,
    kubeconfig: cluster_options.KubeconfigOption = None,
    context: cluster_options.ContextOption = None,
    namespace: cluster_options.NamespaceOption = None,
    output: options.FormatOption = Format.TABLE,
) -> None:
    """Create or change runs and Benchmarks of a cluster.

    Manifests are read as strictly as by evalrun run; names of benchmarks, profiles and backends
    are checked before anything is sent. Benchmarks are applied before the runs that refer to
    them. Applying a manifest again changes nothing; a run that has ended is not started again:
    delete it first (evalrun cancel NAME --delete), its answers are reused.

    Examples:

    - `evalrun apply benchmark.yaml run.yaml -n team-vision --wait`
    - `evalrun apply run.yaml --dry-run`
    - `kubectl evalrun apply run.yaml --wait --timeout 2h -o json > run.json`
    """
    from evalrun_cli import applying, durations, watching
    from evalrun_cli.commands.connecting import connected
    from evalrun_cli.manifests import read_files

    applying.check_options(wait=wait, dry_run=dry_run, timeout=timeout)
    longest = durations.parse(timeout, "--timeout") if timeout is not None else None
    files = read_files(manifests, Path.cwd())
    applying.read(files, namespace or "", None, strict=not no_check)  # before a connection
    cluster = connected(kubeconfig, context, namespace)
    wanted = applying.read(files, cluster.namespace, namespace, strict=not no_check)
    follow = applying.run_to_follow(wanted) if wait else None
    if not no_check:
        applying.check(wanted, cluster)
    applied = applying.apply_all(cluster, wanted, output, force=force_conflicts, dry_run=dry_run)
    if follow is not None:
        cluster.namespace = follow.namespace
        form = WideFormat(output.value)
        raise typer.Exit(watching.watch(cluster, follow.name, longest, form))
    if is_document(output):
        applying.tell(applied, output, cluster, dry_run=dry_run)
