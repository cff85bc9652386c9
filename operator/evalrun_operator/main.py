"""The command `evalrun-operator`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from evalrun_api import __version__
from evalrun_api.errors import EvalrunError, Fault, Refused
from evalrun_api.operator_config import OperatorConfig
from evalrun_api.reading import read
from evalrun_operator import logs
from evalrun_operator.api_errors import ApiError

DEFAULT_CONFIG = Path("/etc/lmms-eval-operator/config.yaml")
DESCRIPTION = """\
Acts on EvaluationRuns: plans them, starts their Jobs, and tells in their status how they fare.

It reaches the API server with its pod's service account, else with KUBECONFIG. Of several replicas
one works, the one that holds the Lease; the others wait. SIGTERM gives the Lease back, so that the
next one starts at once. Logs go to standard error, one JSON object a line.
"""
EPILOG = """\
endpoints:
  /metrics  for Prometheus
  /healthz  200 while all parts work; else 503, and which part stands still
  /readyz   200 while the API server answers and, for the leader, all runs have been read

exit codes:
  0  asked to stop    1  leadership lost, or a part failed; start it again
  2  the configuration or the command line is wrong

The least configuration:
  images: {runner: registry.example.com/lmms-eval-runner:0.1.0}
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the operator; ends the process."""
    options = _parser().parse_args(arguments)
    logs.set_up(options.log_level.upper())
    try:
        config = load_config(options.config)
    except EvalrunError as error:
        for fault in error.faults:
            sys.stderr.write(f"evalrun-operator: {fault}\n")
        sys.exit(2)
    # Only now, since it takes seconds: a wrong configuration is told at once.
    from evalrun_operator.operation import operate

    host, port = options.listen
    try:
        sys.exit(asyncio.run(operate(config, host, port, options.lease_namespace)))
    except (ApiError, OSError) as error:
        logging.getLogger(__name__).critical("cannot start: %s", error)
        sys.exit(1)


def load_config(path: Path) -> OperatorConfig:
    """The configuration file. Raises `Refused` with every fault."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        what = f"the file cannot be read: {error.strerror}"
        raise Refused([Fault(str(path), what, "Name another one with --config")]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise Refused([Fault(where, f"not valid YAML: {problem}", "Correct it")]) from error
    return read(OperatorConfig, {} if value is None else value, f"{path}: ")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evalrun-operator",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help=f"the administrator's configuration (default: {DEFAULT_CONFIG})",
    )
    parser.add_argument(
        "--listen",
        type=_address,
        default=("0.0.0.0", 8080),  # noqa: S104 - probes and Prometheus come from outside the pod
        metavar="HOST:PORT",
        help="where the endpoints are served (default: 0.0.0.0:8080; IPv6: [::]:8080)",
    )
    parser.add_argument(
        "--lease-namespace",
        metavar="NAMESPACE",
        help="where the Lease is (default: POD_NAMESPACE, else the pod's own namespace)",
    )
    parser.add_argument(
        "--log-level",
        type=str.lower,
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="least level that is logged (default: info)",
    )
    parser.add_argument("--version", action="version", version=__version__)
    return parser


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdigit() or not 0 <= int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, as in 0.0.0.0:8080")
    return host, int(port)


if __name__ == "__main__":
    main()
