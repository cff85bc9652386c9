"""`evalrun run`: a manifest becomes scores, on this machine."""

from __future__ import annotations

import typer

from evalrun_cli import options
from evalrun_cli.output import Format


def run(
    manifests: options.ManifestsArgument,
    volume: options.VolumeOption = None,
    store: options.StoreOption = None,
    s3_endpoint: options.EndpointOption = None,
    s3_region: options.RegionOption = None,
    name: options.NameOption = None,
    fresh: options.FreshOption = False,
    resume: options.ResumeOption = None,
    limit: options.LimitOption = None,
    output: options.FormatOption = Format.TABLE,
) -> None:
    """Evaluate a model on this machine and show its scores.

    Answers are stored as they are computed. Ctrl-C stops the run and loses none of them; the
    same command goes on where it stopped, and answers that an earlier run computed are reused.
    After --fresh the answers belong to that attempt alone: --resume goes on with it.

    Results go to --store, else where the manifest's spec.results says, else to ./evalrun-results.
    A volume claim is the folder of the claim's name beside the manifest file that uses it,
    unless --volume says otherwise.

    Examples:

    - `evalrun run run.yaml benchmark.yaml --volume models=./checkpoints`
    - `evalrun run run.yaml --limit 20 --store /tmp/trial`
    - `evalrun run run.yaml --store s3://evals/team --s3-endpoint http://minio:9000 -o json`
    """
    from evalrun_cli import running
    from evalrun_cli.destination import StoreChoice

    choice = StoreChoice(store, s3_endpoint, s3_region)
    work = running.prepare_run(manifests, name, volume or [], choice, fresh, limit, resume)
    raise typer.Exit(running.execute(work, "all", output))
