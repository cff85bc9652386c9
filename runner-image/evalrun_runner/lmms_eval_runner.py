"""`LMMSEvalRunner`: an evaluation from Python, over the same engine as `evalrun run`.

    runner = LMMSEvalRunner("llava-hf/llava-1.5-7b-hf", ["mme"], {"gpu_device_id": "cuda:0"})
    runner.start()
    for line in runner.stream_logs():
        print(line)
    print(runner.parse_metrics(runner.stdout))

The run is planned here and answered by a process of its own, so that neither torch nor lmms-eval is
imported into the caller. Answers are journaled beneath `output_dir`; the same run started again
computes only what is missing.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evalrun_api.checks import Surroundings
from evalrun_api.index import builtin_index
from evalrun_api.plan import RunPlan, StorePlan
from evalrun_api.planning import make_plan
from evalrun_api.policy import LAPTOP
from evalrun_api.profiles import builtin_profiles
from evalrun_api.termination import TerminationMessage
from evalrun_runner import local
from evalrun_runner.runner_config import DEFAULT_FOLDER, read_config, wanted

POLL_SECONDS = 0.2
STOP_SECONDS = 60.0
"""How long a run may take to store what is finished after Ctrl-C."""
SCORE_MESSAGE = "score"
"""Of the log line that tells a score, as `score` writes it; importing that would import torch."""


class LMMSEvalRunner:
    """One evaluation of one model as a process of this machine.

    model_id: a repository of the hub, a folder with a model, or the name of a profile (then
    config["model_args"] names the weights). benchmark_ids: names of lmms-eval's tasks and groups,
    and files with Benchmark objects. config: see `RunnerConfig`.

    Raises `evalrun_api.errors.Refused` with every fault of what it is given.
    """

    def __init__(
        self,
        model_id: str,
        benchmark_ids: Sequence[str],
        config: Mapping[str, Any] | None = None,
    ) -> None:
        checked = read_config(config or {})
        profiles = builtin_profiles()
        asked = wanted(model_id, benchmark_ids, checked, profiles)
        folder = Path(checked.output_dir or DEFAULT_FOLDER).expanduser().resolve()
        planned = make_plan(
            asked.run,
            uuid.uuid4().hex,
            StorePlan(uri=folder.as_uri()),
            Surroundings(profiles, builtin_index(), LAPTOP, asked.benchmarks),
        )
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(checked.devices)} if checked.devices else {}
        self._step: local.RunningStep | None = None
        self._run = local.LocalRun(
            plan=planned.plan,
            files=planned.files,
            volumes=asked.volumes,
            workspace=folder / "work" / planned.plan.run.uid,
            spool=folder / "spool",
            environment=visible,
        )

    @property
    def plan(self) -> RunPlan:
        """What will be done, with nothing left to decide."""
        return self._run.plan

    @property
    def log(self) -> Path:
        """The file that holds what the process prints."""
        return self._run.log

    def start(self) -> int:
        """Start the evaluation; the id of its process. To be called once."""
        if self._step is not None:
            raise RuntimeError("the evaluation was started before; make another LMMSEvalRunner")
        local.open_store(self.plan.store).check()
        self._step = local.start(self._run)
        return self._step.pid

    def stream_logs(self) -> Iterator[str]:
        """What the process prints, line by line, until it ends.

        Ctrl-C meanwhile stops the run: finished answers are stored, and it is raised again.
        """
        step = self._started()
        with self.log.open("rb") as log, self._stopped_by_interrupt():
            rest = b""
            while True:
                ended = step.poll() is not None  # looked at first: what follows is all there is
                *lines, rest = (rest + log.read()).split(b"\n")
                for line in lines:
                    yield _text(line)
                if ended:
                    break
                if not lines:
                    step.wait(POLL_SECONDS)
            if rest:
                yield _text(rest)

    def wait(self, seconds: float | None = None) -> int | None:
        """The exit code, 0 for a score that is written; None if it works on after `seconds`.

        Ctrl-C meanwhile stops the run: finished answers are stored, and it is raised again.
        """
        step = self._started()
        with self._stopped_by_interrupt():
            return step.wait(seconds)

    def stop(self) -> int | None:
        """Have the run store its finished answers and end; the exit code. A later one goes on."""
        step = self._started()
        step.stop()
        if step.wait(STOP_SECONDS) is None:
            step.kill()
        return step.wait(5)

    @property
    def stdout(self) -> str:
        """What the process has printed so far."""
        try:
            return _text(self.log.read_bytes())
        except OSError:
            return ""

    @property
    def outcome(self) -> TerminationMessage | None:
        """How it stands or ended: reason, message, counts, address of the manifest."""
        return self._started().outcome()

    @staticmethod
    def parse_metrics(stdout: str) -> dict[str, dict[str, float]]:
        """Benchmark → metric → value, from what a run printed. Other lines do not matter.

        A metric that has a filter is `METRIC,FILTER`, as in lmms-eval's results.
        """
        found: dict[str, dict[str, float]] = {}
        for line in stdout.splitlines():
            if not line.lstrip().startswith("{"):
                continue
            try:
                entry = json.loads(line)
                if entry["message"] == SCORE_MESSAGE:
                    of_benchmark = found.setdefault(str(entry["benchmark"]), {})
                    filtered = entry.get("filter", "none") != "none"
                    metric = f"{entry['metric']},{entry['filter']}" if filtered else entry["metric"]
                    of_benchmark[metric] = float(entry["value"])
            except (ValueError, TypeError, KeyError):
                continue
        return found

    def _started(self) -> local.RunningStep:
        if self._step is None:
            raise RuntimeError("the evaluation has not been started; call start() first")
        return self._step

    @contextmanager
    def _stopped_by_interrupt(self) -> Iterator[None]:
        """Ctrl-C reaches this process alone, so the other is told."""
        try:
            yield
        except KeyboardInterrupt:
            self.stop()
            raise


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
