"""`evalrun gc`: stored answers that nobody needs any more, and deleting them."""

from __future__ import annotations

from typing import Annotated

import typer

from evalrun_cli import options
from evalrun_cli.output import WideFormat


def gc(
    place: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STORE|MANIFEST",
            help="A store (s3://BUCKET/PREFIX, file:///FOLDER or a folder), or manifests whose "
            "run says which; ./evalrun-results by default.",
            show_default=False,
        ),
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete what is listed. Nothing brings it back.")
    ] = False,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than",
            metavar="AGE",
            help="Take answers whose last use is longer ago than 30d, 12h …, whatever the runs "
            "say of how long to keep them.",
        ),
    ] = None,
    namespace: options.NamespaceOption = "default",
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Every namespace of the store.")
    ] = False,
    volume: options.VolumeOption = None,
    store: options.StoreOption = None,
    s3_endpoint: options.EndpointOption = None,
    s3_region: options.RegionOption = None,
    output: options.WideFormatOption = WideFormat.TABLE,
) -> None:
    """List stored answers and documents that nobody needs any more; with --delete, delete them.

    Answers outlive the runs that computed them, so that a run applied again pays for nothing twice.
    They are garbage when no run of the store refers to them, or when every run that does is
    finished and asked to keep them (spec.results.answersRetentionSeconds) for less long than their
    last use is ago. Where one run sets no retention they are kept for ever, unless --older-than
    says otherwise.

    Never garbage: answers of a run without a manifest that wrote anything in the last 7 days, for
    it may be at work or suspended; answers of the last day to which no run refers yet; and, where
    the lock of a run cannot be read, answers that no other run refers to. Results, manifests and
    plans are not touched: a finished run keeps its scores, and only scoring it again needs its
    answers.

    Packed documents (data/NAMESPACE in the store), which prepare leaves for a run's other steps,
    are garbage when no run refers to them and nothing was written to them for a day.

    Files that killed processes left half-written in the store, or empty in this machine's spool,
    are listed and deleted too, a day later; answers that wait in the spool never are. -o wide
    also lists what is kept, and why.

    Examples:

    - `evalrun gc`
    - `evalrun gc s3://evals/team --s3-endpoint http://minio:9000 -n nightly --delete`
    - `evalrun gc run.yaml benchmark.yaml --older-than 90d`
    """
    import os
    from pathlib import Path

    from evalrun_cli import gc_places, gc_report, supervision
    from evalrun_cli.destination import StoreChoice

    where = gc_places.find(
        place or [], StoreChoice(store, s3_endpoint, s3_region), volume or [], namespace
    )
    spool = supervision.cache_folder(os.environ, Path.home()) / "spool"
    report = gc_report.collect(
        where, spool, all_namespaces=all_namespaces, older_than=older_than, delete=delete
    )
    gc_report.show(report, output)
