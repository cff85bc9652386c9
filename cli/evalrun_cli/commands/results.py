"""`evalrun results`: finished runs of a store or a cluster, and the scores of one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from evalrun_cli import cluster_options, options
from evalrun_cli.output import WideFormat


def results(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="A run: its scores and files.",
            show_default=False,
            callback=cluster_options.run_name,
        ),
    ] = None,
    uid: Annotated[
        str | None,
        typer.Argument(
            metavar="[UID]",
            help="Which attempt, by the beginning of its uid; the last one by default.",
            show_default=False,
        ),
    ] = None,
    store: options.StoreOption = None,
    s3_endpoint: options.EndpointOption = None,
    s3_region: options.RegionOption = None,
    cluster: Annotated[
        bool,
        typer.Option("--cluster", help="Ask the cluster.", rich_help_panel=cluster_options.PANEL),
    ] = False,
    kubeconfig: cluster_options.KubeconfigOption = None,
    context: cluster_options.ContextOption = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            "-n",
            metavar="NAMESPACE",
            help="Namespace of the runs; default in a store, the context's in a cluster.",
            callback=cluster_options.namespace_name,
        ),
    ] = None,
    output: options.WideFormatOption = WideFormat.TABLE,
) -> None:
    """List finished runs, or show the scores of one, from a store or from a cluster.

    Options say where it looks: --store (or --s3-…) in that store, --cluster, --context or
    --kubeconfig in the cluster. Without any of them, kubectl evalrun results asks the cluster, and
    evalrun results reads ./evalrun-results where that folder exists, else it asks the cluster.
    A note on standard error says which it was.

    A store has the files, and every attempt: before numbers are shown, the results files are
    compared with the digests in the manifest. A cluster has the run's status: headline scores, the
    manifest's address and sha256, GPU-seconds; -o wide adds provenance.

    Examples:

    - `evalrun results`
    - `evalrun results easy-vqa-full -o json`
    - `evalrun results --store s3://evals/team --s3-endpoint http://minio:9000 -o wide`
    - `kubectl evalrun results easy-vqa -o wide`
    """
    from evalrun_cli import invocation
    from evalrun_cli.destination import DEFAULT_FOLDER, StoreChoice
    from evalrun_cli.result_places import place

    given = {"--store": store, "--s3-endpoint": s3_endpoint, "--s3-region": s3_region}
    asked = {"--cluster": cluster, "--context": context, "--kubeconfig": kubeconfig}
    chosen = place(
        cluster=[option for option, value in asked.items() if value],
        store=[option for option, value in given.items() if value is not None],
        folder_exists=Path(DEFAULT_FOLDER).is_dir(),
        plugin=invocation.is_plugin(sys.argv[0]),
    )
    if chosen == "cluster":
        from evalrun_cli.commands import connecting
        from evalrun_cli.result_places import nowhere

        choice = connecting.choice_of(kubeconfig, context, namespace)
        if not any(asked.values()) and not choice.is_findable:
            raise nowhere(Path.cwd() / DEFAULT_FOLDER, choice.looked_at)
        found = connecting.connect(choice)
        from evalrun_cli import cluster_listing

        cluster_listing.show_results(found, name, uid, output)
        return
    from evalrun_cli import listing

    opened = listing.existing_store(StoreChoice(store, s3_endpoint, s3_region))
    listing.say_where(opened)
    if name is None:
        listing.show_runs(opened, namespace or "default", output)
    else:
        listing.show_run(opened, namespace or "default", name, uid, output)
