"""`evalrun models`: the model families that come with the release."""

from __future__ import annotations

from typing import Annotated

import typer

from evalrun_cli import options
from evalrun_cli.output import Format


def models(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[PROFILE]", help="A profile: all of it, and a manifest.", show_default=False
        ),
    ] = None,
    output: options.FormatOption = Format.TABLE,
) -> None:
    """List the built-in model profiles, or show one with a manifest that works.

    Any other lmms-eval backend works without a profile: set spec.model.backend.

    Examples:

    - `evalrun models`
    - `evalrun models qwen2_5_vl`
    """
    from evalrun_cli import catalogue

    if name is None:
        catalogue.show_profiles(output)
    else:
        catalogue.show_profile(name, output)
