"""What all tests share: skips fail in CI, and the messages of bad inputs are shown at the end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # package `cluster`
pytest_plugins = ["cluster.fixtures"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts a job in the background so, and every process of the tests would inherit it:
    # those that are sent Ctrl-C would never end.
    signal.signal(signal.SIGINT, signal.default_int_handler)

_seen: list[tuple[str, str, str]] = []
_figures: list[str] = []


@pytest.fixture
def show_figure() -> Callable[[str], None]:
    """Remember a measured figure; it is printed in the test run's summary."""
    return _figures.append


@pytest.fixture
def show_message(request: pytest.FixtureRequest) -> Callable[[object, str], None]:
    """Remember what a user sees for a bad input; it is printed in the test run's summary.

    Takes the outcome (exit code or reason) and the message.
    """

    def remember(outcome: object, message: str) -> None:
        _seen.append((request.node.name, str(outcome), message))

    return remember


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _figures:
        terminalreporter.section("figures")
        for figure in _figures:
            terminalreporter.write_line(figure)
    if not _seen:
        return
    terminalreporter.section(f"what a user sees for {len(_seen)} bad inputs")
    for name, outcome, message in _seen:
        terminalreporter.write_line(f"{name} [{outcome}]")
        for line in message.strip().splitlines():
            terminalreporter.write_line(f"    {line}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI=true, a test that skips because something is missing has failed."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report
