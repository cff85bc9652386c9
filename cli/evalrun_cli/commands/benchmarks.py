"""`evalrun benchmarks`: the names that lmms-eval knows."""

from __future__ import annotations

from typing import Annotated

import typer

from evalrun_cli import options
from evalrun_cli.output import Format


def benchmarks(
    pattern: Annotated[
        str | None,
        typer.Argument(
            metavar="[PATTERN]",
            help="Part of a name, or a pattern with * and ?.",
            show_default=False,
        ),
    ] = None,
    output: options.FormatOption = Format.TABLE,
) -> None:
    """List the tasks, groups and tags of lmms-eval that spec.benchmarks[].name takes.

    Examples:

    - `evalrun benchmarks chartqa`
    - `evalrun benchmarks 'mmmu_*' -o json`
    """
    from evalrun_cli import catalogue

    catalogue.show_benchmarks(pattern, output)
