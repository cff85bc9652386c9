"""`evalrun doctor`: whether this machine can run evaluations."""

from __future__ import annotations

import typer

from evalrun_cli import options
from evalrun_cli.output import Format


def doctor(
    store: options.StoreOption = None,
    s3_endpoint: options.EndpointOption = None,
    s3_region: options.RegionOption = None,
    output: options.FormatOption = Format.TABLE,
) -> None:
    """Check this machine: packages, memory, disk, GPUs, caches, and the store.

    A store named by --store is listed, written and read; ./evalrun-results is only looked at.

    Examples:

    - `evalrun doctor`
    - `evalrun doctor --store s3://evals/team --s3-endpoint http://minio:9000 -o json`
    """
    from evalrun_cli import machine
    from evalrun_cli.destination import StoreChoice

    raise typer.Exit(machine.report(StoreChoice(store, s3_endpoint, s3_region), output))
