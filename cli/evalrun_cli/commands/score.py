"""`evalrun score`: scores from stored answers, without a model."""

from __future__ import annotations

from typing import Annotated

import typer

from evalrun_cli import options
from evalrun_cli.output import Format


def score(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The run whose answers to score.")],
    uid: Annotated[
        str | None,
        typer.Argument(
            metavar="[UID]",
            help="Which attempt, by the beginning of its uid; the last finished one by default.",
            show_default=False,
        ),
    ] = None,
    volume: options.VolumeOption = None,
    store: options.StoreOption = None,
    s3_endpoint: options.EndpointOption = None,
    s3_region: options.RegionOption = None,
    namespace: options.NamespaceOption = "default",
    allow_code: Annotated[
        bool,
        typer.Option(
            "--allow-code", help="Run the Python code that the store kept of the run's Benchmarks."
        ),
    ] = False,
    allow_online: Annotated[
        bool,
        typer.Option("--allow-online", help="Let the benchmarks' code reach the network."),
    ] = False,
    output: options.FormatOption = Format.TABLE,
) -> None:
    """Score the stored answers of an old run again. No answer is computed and no GPU is used.

    The result is a new attempt of the run, with a uid of its own. The plan keeps the names of
    claims only: each is the folder of its name in the current folder, unless --volume says
    otherwise. Where the run's Benchmarks bring Python code (such as !function), the code that the
    store kept is run on this machine, and only with --allow-code: read it first. It reaches no
    network but what the run declares, unless the run had spec.security.allowOnline or
    --allow-online is given.

    Examples:

    - `evalrun score easy-vqa-full --allow-code --volume data=examples/easy-vqa/data`
    - `evalrun score easy-vqa-full 1f0c --store s3://evals/team`
    """
    from evalrun_cli import rescoring, running
    from evalrun_cli.destination import StoreChoice

    choice = StoreChoice(store, s3_endpoint, s3_region)
    work = rescoring.prepare_score(
        choice,
        namespace,
        name,
        uid,
        volume or [],
        allow_code=allow_code,
        allow_online=allow_online,
    )
    raise typer.Exit(running.execute(work, "score", output))
