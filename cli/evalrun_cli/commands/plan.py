"""`evalrun plan`: what a run would do, decided but not done."""

from __future__ import annotations

from pathlib import Path

from evalrun_cli import options
from evalrun_cli.output import Format, answer, is_document, print_document

DRY_UID = "dry-run"


def plan(
    manifests: options.ManifestsArgument,
    volume: options.VolumeOption = None,
    store: options.StoreOption = None,
    s3_endpoint: options.EndpointOption = None,
    s3_region: options.RegionOption = None,
    name: options.NameOption = None,
    fresh: options.FreshOption = False,
    limit: options.LimitOption = None,
    output: options.FormatOption = Format.TABLE,
) -> None:
    """Show what a run would do, and where each value comes from. Nothing is started or written.

    It checks the manifest, the names of benchmarks, profile and backend, and what the run needs
    on this machine; it loads neither lmms-eval nor the model.

    Examples:

    - `evalrun plan run.yaml benchmark.yaml`
    - `evalrun plan run.yaml -o json | jq .plan.model`
    """
    from evalrun_cli import explanation
    from evalrun_cli.destination import StoreChoice
    from evalrun_cli.manifests import read_files
    from evalrun_cli.preparation import Request, prepare

    directory = Path.cwd()
    choice = StoreChoice(store, s3_endpoint, s3_region)
    files = read_files(manifests, directory)
    request = Request(files, name, volume or [], choice, fresh, limit)
    prepared = prepare(request, DRY_UID, directory, dry=True)
    if is_document(output):
        print_document(explanation.document(prepared), output)
    else:
        explanation.print_plan(answer(), prepared)
