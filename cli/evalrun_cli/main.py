"""The `evalrun` command (also `kubectl evalrun`).

Commands import what they need when they are called, so that help, completion and the cheap
commands do not wait for the rest.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from evalrun_api import __version__, reasons
from evalrun_api.errors import EvalrunError, Fault
from evalrun_cli.commands.apply import apply
from evalrun_cli.commands.benchmarks import benchmarks
from evalrun_cli.commands.cancel import cancel, resume
from evalrun_cli.commands.doctor import doctor
from evalrun_cli.commands.gc import gc
from evalrun_cli.commands.list import list_runs
from evalrun_cli.commands.logs import logs
from evalrun_cli.commands.models import models
from evalrun_cli.commands.plan import plan
from evalrun_cli.commands.results import results
from evalrun_cli.commands.run import run
from evalrun_cli.commands.score import score
from evalrun_cli.commands.wait import wait
from evalrun_cli.commands.watch import watch
from evalrun_cli.exits import EPILOG, error_document, exit_of, show_error
from evalrun_cli.output import JSON_KEY, Format, aside, is_document, print_document

DEBUG = "EVALRUN_DEBUG"


class _Group(TyperGroup):
    """Tells errors as messages and exit codes; a traceback is shown only with EVALRUN_DEBUG=1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EvalrunError as error:
            raise typer.Exit(_tell(error, ctx.meta.get(JSON_KEY))) from error
        except (typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError):
            raise
        except Exception as error:
            raise typer.Exit(_tell(_defect(error), ctx.meta.get(JSON_KEY))) from error


def _defect(error: Exception) -> EvalrunError:
    what = f"evalrun itself failed: {type(error).__name__}: {error}"
    remedy = f"Run it again with {DEBUG}=1 and report what it prints"
    return EvalrunError(reasons.INTERNAL_ERROR, Fault("evalrun", what, remedy))


def _tell(error: EvalrunError, form: str | None) -> int:
    if os.environ.get(DEBUG) == "1":
        traceback.print_exc(file=sys.stderr)
    if is_document(form or Format.TABLE):
        print_document(error_document(error), form or Format.JSON)
    show_error(aside(), error)
    return exit_of(error.reason)


app = typer.Typer(
    cls=_Group,
    name="evalrun",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)
COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "On this machine": {"run": run, "plan": plan, "score": score, "gc": gc, "doctor": doctor},
    "In a cluster": {
        "apply": apply,
        "list": list_runs,
        "watch": watch,
        "wait": wait,
        "logs": logs,
        "cancel": cancel,
        "resume": resume,
    },
    "Both": {"results": results, "models": models, "benchmarks": benchmarks},
}
for panel, commands in COMMANDS.items():
    for name, command in commands.items():
        app.command(name, rich_help_panel=panel)(command)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"evalrun {__version__}\n")
        raise typer.Exit


@app.callback()
def _evalrun(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Evaluate multimodal models with lmms-eval, here or in a cluster, from one manifest.

    Begin with `evalrun doctor`, then `evalrun plan run.yaml`, then `evalrun run run.yaml`. In a
    cluster with the operator: `evalrun apply run.yaml --wait`.
    """


def main() -> None:
    """Entry point of the console scripts."""
    app()
