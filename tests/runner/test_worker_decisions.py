"""What is decided about workers: whom to blame, who lives again, what each gets, their sums."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from evalrun_api.errors import EvalrunError
from evalrun_runner.workers import cgroup
from evalrun_runner.workers.accelerators import worker_environment
from evalrun_runner.workers.endings import MAX_IN_A_ROW, MAX_RESTARTS, ending, may_live_again
from evalrun_runner.workers.last_words import last_words, words
from evalrun_runner.workers.mailbox import InHand, Mailbox, TaskCounts, WorkerState
from evalrun_runner.workers.merging import Counts, Lives, merge
from evalrun_runner.workers.poison import Death, judge

pytestmark = pytest.mark.decisions

CHUNK = ("a", "b", "c", "d")


def chunk_death(error: str = "Crashed") -> Death:
    return Death(error, CHUNK)  # type: ignore[arg-type]


def alone(mark: str, error: str = "Crashed") -> Death:
    return Death(error, (mark,))  # type: ignore[arg-type]


def test_a_chunk_that_killed_once_is_asked_as_any_other() -> None:
    verdict = judge(CHUNK, CHUNK, [chunk_death()])
    assert verdict.is_usual
    assert verdict.order == [0, 1, 2, 3]


def test_deaths_at_other_chunks_do_not_make_a_chunk_suspect() -> None:
    others = [Death("Crashed", ("x", "y")), Death("Crashed", ("z",)), chunk_death()]
    assert judge(CHUNK, CHUNK, others).is_usual


def test_a_chunk_that_killed_twice_is_asked_one_by_one() -> None:
    verdict = judge(CHUNK, CHUNK, [chunk_death(), chunk_death()])
    assert verdict.alone
    assert verdict.order == [0, 1, 2, 3]
    assert not verdict.condemned


def test_what_killed_once_alone_is_asked_after_the_others() -> None:
    verdict = judge(CHUNK, CHUNK, [chunk_death(), chunk_death(), alone("b")])
    assert verdict.order == [0, 2, 3, 1]


def test_what_killed_twice_alone_is_given_up_for_what_it_does_and_the_others_are_asked() -> None:
    deaths = [chunk_death(), chunk_death(), alone("b"), alone("b", "Stalled")]
    verdict = judge(CHUNK, CHUNK, deaths)
    assert verdict.condemned == {1: "Stalled"}
    assert verdict.order == [0, 2, 3]


def test_positions_are_those_of_what_is_missing() -> None:
    deaths = [chunk_death(), chunk_death(), alone("d"), alone("d")]
    verdict = judge(("b", "d"), CHUNK, deaths)
    assert (verdict.condemned, verdict.order) == ({1: "Crashed"}, [0])


def test_a_search_for_one_request_that_kills_ends_before_the_budget_does() -> None:
    """Whatever its place in the chunk, a worker of one chunk finds it and finishes the rest."""
    for killer in CHUNK:
        deaths: list[Death] = []
        done: set[str] = set()
        in_a_row = 0
        for restarts in range(MAX_IN_A_ROW + 1):
            missing = [mark for mark in CHUNK if mark not in done]
            verdict = judge(missing, CHUNK, deaths)
            done |= {missing[position] for position in verdict.condemned}
            asked = [missing[position] for position in verdict.order]
            finished = 0
            for group in [[mark] for mark in asked] if verdict.alone else [asked]:
                if killer in group:
                    deaths.append(Death("Crashed", tuple(group)))
                    in_a_row = 1 if finished else in_a_row + 1
                    break
                done |= set(group)
                finished += len(group)
            else:
                break
            assert may_live_again(in_a_row, restarts), f"the search for {killer} was given up"
        assert done == set(CHUNK)


@pytest.mark.parametrize(
    ("code", "said", "kind", "reason", "blame"),
    [
        (0, "Completed", "done", "Completed", None),
        (30, "Stopped", "stopped", "Stopped", None),
        (0, "Running", "died", "WorkerFailed", "Crashed"),
        (30, "Running", "died", "WorkerFailed", "Crashed"),
        (10, "LockMismatch", "failed", "LockMismatch", None),
        (12, "WrongAnswerCount", "failed", "WrongAnswerCount", None),
        (13, "nonsense", "failed", "InternalError", None),
        (-signal.SIGSEGV, "Running", "died", "WorkerFailed", "Crashed"),
        (-signal.SIGKILL, "Running", "died", "OutOfMemory", "OutOfMemory"),
        (1, "Stalled", "died", "Stalled", "Stalled"),
        (1, "WorkerFailed", "died", "WorkerFailed", "Crashed"),
        (1, "BackendFailed", "died", "BackendFailed", None),
        (1, "Running", "died", "WorkerFailed", "Crashed"),
        (20, "StoreUnavailable", "died", "StoreUnavailable", None),
    ],
)
def test_how_a_life_ended(code: int, said: str, kind: str, reason: str, blame: str | None) -> None:
    found = ending(code, said, "")
    assert (found.kind, found.reason.name, found.blame) == (kind, reason, blame)


def test_a_crash_beside_a_rise_of_the_kernels_counter_is_memory() -> None:
    assert ending(-signal.SIGBUS, "Running", "", memory_killed=True).blame == "OutOfMemory"


def test_a_worker_that_was_killed_for_its_stall_has_stalled() -> None:
    assert ending(-signal.SIGKILL, "Running", "", stalled=True).reason.name == "Stalled"


def test_the_signal_is_named() -> None:
    assert "SIGSEGV" in ending(-signal.SIGSEGV, "Running", "").what


CRASH = """\
{"level": "info", "message": "model loaded"}
{"level": "warning", "message": "a warning"}
Fatal Python error: Segmentation fault

Thread 0x00007f (most recent call first):
  File "threading.py", line 331 in wait
Current thread 0x00007e (most recent call first):
  File "kernel.py", line 7 in multiply
  File "backend.py", line 9 in generate

Extension modules: torch._C, numpy (total: 2)
"""


def test_of_a_crash_the_error_and_the_frames_of_its_thread_are_told() -> None:
    said = [text for line in CRASH.encode().splitlines() if (text := words(line))]
    assert said[0] == "a warning"
    assert last_words(said).splitlines() == [
        "Fatal Python error: Segmentation fault",
        "Current thread 0x00007e (most recent call first):",
        'File "kernel.py", line 7 in multiply',
        'File "backend.py", line 9 in generate',
    ]


def test_of_other_deaths_the_last_lines_are_told() -> None:
    assert last_words([f"line {number}" for number in range(50)]).endswith("line 48\nline 49")
    assert len(last_words(["x" * 500] * 50)) <= 1200


def test_lives_are_bounded_in_a_row_and_in_all() -> None:
    assert may_live_again(MAX_IN_A_ROW - 1, 0)
    assert not may_live_again(MAX_IN_A_ROW, MAX_IN_A_ROW - 1)
    assert not may_live_again(1, MAX_RESTARTS)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"CUDA_VISIBLE_DEVICES": "2,3"}),
        ({"CUDA_VISIBLE_DEVICES": "7,6,5,4"}, {"CUDA_VISIBLE_DEVICES": "5,4"}),
        (
            {"CUDA_VISIBLE_DEVICES": "GPU-a, GPU-b,GPU-c,GPU-d,GPU-e"},
            {"CUDA_VISIBLE_DEVICES": "GPU-c,GPU-d"},
        ),
        (
            {"NVIDIA_VISIBLE_DEVICES": "MIG-1,MIG-2,MIG-3,MIG-4"},
            {"CUDA_VISIBLE_DEVICES": "MIG-3,MIG-4"},
        ),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, {"CUDA_VISIBLE_DEVICES": "2,3"}),
        ({"ROCR_VISIBLE_DEVICES": "4,5,6,7"}, {"ROCR_VISIBLE_DEVICES": "6,7"}),
        ({"HIP_VISIBLE_DEVICES": "0,1,2,3"}, {"HIP_VISIBLE_DEVICES": "2,3"}),
        (
            {"ROCR_VISIBLE_DEVICES": "4,5,6,7", "HIP_VISIBLE_DEVICES": "3,2,1,0"},
            {"ROCR_VISIBLE_DEVICES": "5,4", "HIP_VISIBLE_DEVICES": "0,1"},
        ),
    ],
)
def test_a_worker_sees_its_own_accelerators(
    given: dict[str, str], expected: dict[str, str]
) -> None:
    found = worker_environment({**given, "OMP_NUM_THREADS": "3"}, 1, 2, 4, 8)
    assert found == expected


def test_too_few_devices_are_named() -> None:
    with pytest.raises(EvalrunError, match="CUDA_VISIBLE_DEVICES: it names 1 devices"):
        worker_environment({"CUDA_VISIBLE_DEVICES": "0"}, 1, 2, 2, 8)


def test_processors_are_split_unless_somebody_has_decided() -> None:
    assert worker_environment({}, 0, 3, 0, 8) == {"OMP_NUM_THREADS": "2"}
    assert worker_environment({}, 0, 16, 0, 8) == {"OMP_NUM_THREADS": "1"}
    assert worker_environment({"OMP_NUM_THREADS": "5"}, 0, 3, 0, 8) == {}


def state(total: int, reused: int, computed: int, **rest: object) -> WorkerState:
    counts = TaskCounts(name="t", total=total, reused=reused, computed=computed)
    return WorkerState.model_validate({"tasks": [counts], **rest})


def test_workers_sum_up_and_their_times_are_averaged() -> None:
    first, second = Lives(), Lives()
    first.update(state(60, 10, 5, errors={"Empty": 2}, seconds={"generate": 4.0}, activity="x"))
    second.update(state(40, 0, 7, errors={"Empty": 1}, seconds={"generate": 2.0}, activity="x"))
    sums = merge([first, second])
    assert sums.tasks == {"t": Counts(100, 10, 12)}
    assert sums.errors == {"Empty": 3}
    assert sums.seconds == {"generate": 3.0}
    assert sums.activity == "x"


def test_what_an_earlier_life_computed_stays_computed() -> None:
    lives = Lives()
    lives.update(state(60, 10, 5, errors={"Empty": 1}, seconds={"load": 3.0}))
    lives.end_life()
    assert lives.counts() == {"t": Counts(60, 10, 5)}
    assert merge([lives]).seconds == {"load": 3.0}
    lives.update(state(60, 16, 2, seconds={"load": 2.0}))  # one more than it had told of
    assert lives.counts() == {"t": Counts(60, 10, 8)}
    assert merge([lives]).seconds == {"load": 5.0}
    assert merge([lives]).errors == {"Empty": 1}


def test_counts_do_not_fall_while_a_new_life_finds_its_way() -> None:
    lives = Lives()
    lives.update(state(60, 10, 30))
    lives.end_life()
    lives.update(state(60, 10, 0))
    assert lives.counts() == {"t": Counts(60, 10, 30)}


def test_a_mailbox_takes_nonsense_for_silence(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path / "w")
    assert (mailbox.state(), mailbox.in_hand(), mailbox.deaths()) == (None, InHand(), [])
    mailbox.begin_life()
    for name in ("state.json", "in-hand.json", "deaths.json"):
        (tmp_path / "w" / name).write_bytes(b'{"computed": -1, "x": [')
    assert (mailbox.state(), mailbox.in_hand(), mailbox.deaths()) == (None, InHand(), [])
    mailbox.write_deaths([alone("b")])
    mailbox.hold(InHand(marks=["b"], finished=3, deadline=1.5))
    mailbox.tell(state(3, 1, 1))
    assert mailbox.deaths() == [alone("b")]
    assert mailbox.in_hand().finished == 3
    assert mailbox.state() == state(3, 1, 1)
    mailbox.begin_life()
    assert (mailbox.state(), mailbox.in_hand(), mailbox.deaths()) == (None, InHand(), [alone("b")])


@pytest.mark.parametrize(
    ("membership", "file", "text"),
    [
        ("0::/\n", "memory.events", "low 0\noom 4\noom_kill 3\n"),
        ("0::/kubepods/pod1/c1\n", "kubepods/pod1/c1/memory.events", "oom_kill 3\n"),
        ("0::/the/hosts/path\n", "memory.events", "oom_kill 3\n"),
        (
            "9:cpu,cpuacct:/x\n4:memory:/a/b\n0::/\n",
            "memory/a/b/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        ),
    ],
)
def test_the_kernels_count_of_kills(tmp_path: Path, membership: str, file: str, text: str) -> None:
    (tmp_path / "membership").write_text(membership)
    path = tmp_path / "cgroup" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert cgroup.memory_kills(tmp_path / "membership", tmp_path / "cgroup") == 3
    assert cgroup.memory_kills(tmp_path / "membership", tmp_path / "nothing") == 0
    assert cgroup.memory_kills(tmp_path / "nothing", tmp_path / "cgroup") == 0


def test_processors_are_those_of_the_quota(tmp_path: Path) -> None:
    (tmp_path / "membership").write_text("0::/\n")
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert cgroup.processors(tmp_path / "membership", tmp_path) == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cgroup.processors(tmp_path / "membership", tmp_path) >= 1
