"""`evalrun results`: finished runs of a store, and the scores of one."""

from __future__ import annotations

from typing import Annotated

import typer

from evalrun_cli import options
from evalrun_cli.output import WideFormat


def results(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="A run: its scores and files.", show_default=False),
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
    namespace: options.NamespaceOption = "default",
    output: options.WideFormatOption = WideFormat.TABLE,
) -> None:
    """List the finished runs of a store, or show the scores of one.

    The store is ./evalrun-results unless --store says otherwise. Before numbers of a run are
    shown, its results files are compared with the digests in its manifest.

    Examples:

    - `evalrun results`
    - `evalrun results easy-vqa-full -o json`
    - `evalrun results --store s3://evals/team --s3-endpoint http://minio:9000 -o wide`
    """
    from evalrun_cli import listing
    from evalrun_cli.destination import StoreChoice

    opened = listing.existing_store(StoreChoice(store, s3_endpoint, s3_region))
    if name is None:
        listing.show_runs(opened, namespace, output)
    else:
        listing.show_run(opened, namespace, name, uid, output)
