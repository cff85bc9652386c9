"""What is shown while a run is at work."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from evalrun_api import reasons
from evalrun_api.progress import Progress, TaskProgress
from evalrun_cli.display import LINE_SECONDS, PlainDisplay, bars, plain_line, shown, visible
from evalrun_cli.exits import failure_panel
from evalrun_cli.output import clock

pytestmark = pytest.mark.decisions


def progress(*tasks: tuple[str, int, int], **more: float) -> Progress:
    return Progress(
        step="answer",
        activity="answering",
        tasks=[TaskProgress(name=n, requests_done=d, requests_total=t) for n, d, t in tasks],
        requests_done=sum(done for _, done, _ in tasks),
        requests_total=sum(total for _, _, total in tasks),
        **more,
    )


def drawn(state: Progress, width: int = 80, height: int = 30) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    console.print(bars(state, width, height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (6.2, "0:07"), (754, "12:34"), (3723, "1:02:03")]
)
def test_a_duration_is_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_line_tells_activity_counts_rate_time_left_and_reuse() -> None:
    state = progress(("a", 912, 3000), requests_per_second=78.9, eta_seconds=26.4, reused=100)
    line = plain_line(state, 36)
    assert line == "[0:36] answering: 912/3,000 answers, 79/s, 0:27 left, 100 reused"


def test_before_anything_is_known_the_runner_is_starting() -> None:
    assert plain_line(None, 1) == "[0:01] starting the runner"


def test_one_task_has_one_bar_and_several_have_a_total_too() -> None:
    assert len(drawn(progress(("a", 1, 2)))) == 2
    lines = drawn(progress(("a", 1, 2), ("b", 0, 2)))
    assert [line.split()[0] for line in lines] == ["a", "b", "total", "1/4"]
    assert lines[2].endswith("1/4  25%")


def test_no_line_is_wider_than_the_terminal() -> None:
    state = progress(("a_benchmark_with_a_name_that_is_long_" * 3, 1_000_000, 2_000_000))
    assert all(len(line) <= 80 for line in drawn(state))


def test_a_share_is_never_rounded_up_to_all() -> None:
    assert drawn(progress(("a", 9_999, 10_000)))[0].endswith("99%")


def test_where_not_all_tasks_fit_those_at_work_are_shown_first() -> None:
    state = progress(*((f"done{n}", 5, 5) for n in range(9)), ("busy", 2, 5), ("next", 0, 5))
    names = [task.name for task in visible(state.tasks, 4)]
    assert names == ["done8", "busy", "next"]
    lines = drawn(state, height=9)
    assert "and 8 more tasks" in lines[-2]
    assert len(lines) <= 9


def test_without_a_terminal_lines_are_at_least_five_seconds_apart() -> None:
    console = Console(file=io.StringIO(), width=80)
    with shown(console) as display:
        assert isinstance(display, PlainDisplay)
        for tenth in range(200):
            display.show(progress(("a", tenth, 200)), tenth / 10)
    assert isinstance(console.file, io.StringIO)
    assert len(console.file.getvalue().splitlines()) == 20 / LINE_SECONDS


def test_a_terminal_gets_the_live_display() -> None:
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True, highlight=False)
    with shown(console) as display:
        display.show(progress(("shapes", 1, 2)), 3)
        display.say("stopping")
        display.say("HTTP 502: [/x] [bold]b[/bold]")
    assert isinstance(console.file, io.StringIO)
    assert "HTTP 502: [/x] [bold]b[/bold]" in console.file.getvalue()
    assert "shapes" in console.file.getvalue()
    assert "stopping" in console.file.getvalue()


def test_a_reason_of_another_release_is_no_markup() -> None:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(failure_panel(reasons.INTERNAL_ERROR, "[/y]", "[/z]", title="[/x]"))
    assert isinstance(console.file, io.StringIO)
    assert "failed: [/x]" in console.file.getvalue()
