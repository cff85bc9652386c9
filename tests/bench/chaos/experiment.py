"""One experiment from beginning to end: everything started, played, and judged."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.api_client import ApiClient
from bench.api_faults.draws import Draws
from bench.api_faults.killing import Kills
from bench.api_faults.proxy import FaultProxy
from bench.chaos import judge
from bench.chaos.audit import fenced, writes_by_run
from bench.chaos.history import RunRecord
from bench.chaos.keeper import Keeper
from bench.chaos.people import People
from bench.chaos.scripts import draw
from bench.chaos.witness import Witness
from bench.played_node.process import PlayedNode
from cluster.cluster import control_plane
from cluster.control_plane import ControlPlane
from cluster.operator_process import USER, establish, write_kubeconfig
from cluster.ports import free_ports

CONFIG: dict[str, Any] = {
    "images": {"runner": "registry.example.com/runner:1"},
    "policy": {"allowInlineStores": True},
}
"""Of the operator: as delivered, but for a Lease so short that a killed leader is followed soon."""
WRITES_OF_A_RUN = 4.0
"""Fewer than a run takes, so that all kills are done before the last run has ended."""
SETTLE_SECONDS = 20.0
"""After the last run's end, without faults, for what is still to be removed."""
STILL_SECONDS = 2.0
"""For which all is watched in any case: for what should not come any more."""


@dataclass(frozen=True)
class Setting:
    """What is asked for. at_once: runs that are active at the same time. deadline: seconds in which
    a run has to end once nobody acts any more. lease_seconds: as short as two cores allow
    that have all of this to do.
    """

    runs: int
    kills: int
    seed: int
    at_once: int = 150
    deadline: float = 600.0
    namespaces: int = 5
    lease_seconds: int = 6
    calm: bool = False


@dataclass
class Findings:
    """What came of it. violations: every single one, by its kind. writes: by run."""

    violations: dict[str, list[str]] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    recovery: list[float] = field(default_factory=list)
    kills: int = 0
    kills_before_write: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    acts: int = 0
    writes: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    node: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


def run(setting: Setting, folder: Path, say: Callable[[str], None]) -> Findings:
    """Play it. folder: exists; gets the operator's logs. Raises MissingError."""
    with control_plane("chaos", audited_users=(USER,)) as plane:
        establish(plane)
        port = free_ports("127.0.0.1", 1)[0]
        kubeconfig = folder / "kubeconfig"
        write_kubeconfig(plane, kubeconfig, f"http://127.0.0.1:{port}")
        namespaces = [plane.namespace("chaos") for _ in range(setting.namespaces)]
        node = PlayedNode.start(plane, "--seconds", "0.4", f"--seed={setting.seed}")
        experiment = Experiment(setting, plane, namespaces, say)
        asyncio.run(experiment.play(port, kubeconfig, folder))
        node.check()
        experiment.findings.node = node.stop()
        experiment.judge_writes()
        return experiment.findings


class Experiment:
    """The parts, and what holds them together."""

    def __init__(
        self,
        setting: Setting,
        plane: ControlPlane,
        namespaces: list[str],
        say: Callable[[str], None],
    ) -> None:
        self.findings = Findings()
        self._setting = setting
        self._plane = plane
        self._namespaces = namespaces
        self._say = say

    async def play(self, port: int, kubeconfig: Path, folder: Path) -> None:
        """Until all runs have ended, or had their time."""
        setting, loop = self._setting, asyncio.get_running_loop()
        begun = loop.time()
        draws = Draws(setting.seed)
        draws.calm = setting.calm
        config = CONFIG | {"leaseSeconds": setting.lease_seconds}
        keeper = Keeper(folder, kubeconfig, config, setting.seed)
        scripts = [draw(setting.seed, n, self._namespaces) for n in range(setting.runs)]
        async with ApiClient(self._plane.kubeconfig) as api:
            self._witness = Witness(api)
            self._people = People(api, self._witness, setting.seed, setting.deadline)
            kills = Kills(
                wanted=0 if setting.calm else setting.kills,
                gap=self._writes_until_a_kill,
                seed=setting.seed,
                kill=keeper.kill,
                clock=loop.time,
            )
            proxy = FaultProxy(self._plane.server, self._trust(), draws, kills)
            await proxy.start(port)
            parts = [
                asyncio.create_task(part)
                for part in (
                    self._witness.run(),
                    keeper.run(kills),
                    self._report(kills, draws, begun),
                )
            ]
            playing = asyncio.create_task(self._people.play(scripts, setting.at_once))
            try:
                await asyncio.wait((playing, *parts), return_when=asyncio.FIRST_COMPLETED)
                for part in parts:
                    if part.done():
                        part.result()  # none of them ends by itself
                draws.calm = True
                kills.wanted = kills.done
                await self._settle()
            finally:
                for task in (playing, *parts):
                    task.cancel()
                await asyncio.gather(playing, *parts, return_exceptions=True)
                await proxy.stop()
            playing.result()
        found = self.findings
        found.faults, found.recovery = draws.seen, kills.recovery
        found.kills, found.kills_before_write = kills.done, kills.before_write
        found.ended, found.acts = keeper.ended, self._people.acts
        found.seconds = loop.time() - begun
        self._judge(keeper.defects())

    def _writes_until_a_kill(self, kills_left: int) -> float:
        runs_left = self._setting.runs - self._people.done
        return runs_left * WRITES_OF_A_RUN / max(kills_left, 1)

    async def _settle(self) -> None:
        """Wait until garbage collection has taken what deleted runs have left, or had its time."""
        await asyncio.sleep(STILL_SECONDS)
        until = asyncio.get_running_loop().time() + SETTLE_SECONDS
        runs = self._witness.history.by_uid
        while asyncio.get_running_loop().time() < until:
            if not any(judge.left_behind(run) for run in runs.values()):
                return
            await asyncio.sleep(0.5)

    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self._plane.authority.certificate))

    async def _report(self, kills: Kills, draws: Draws, begun: float) -> None:
        while True:
            await asyncio.sleep(5)
            seconds = asyncio.get_running_loop().time() - begun
            faults = sum(draws.seen.values())
            self._say(
                f"{seconds:6.0f} s  {self._people.done:5} of {self._setting.runs} runs  "
                f"{kills.done:3} kills  {faults:6} faults"
            )

    def _judge(self, defects: list[str]) -> None:
        """Of all but the writes."""
        history, expected = self._witness.history, self._people.expected
        found: defaultdict[str, list[str]] = defaultdict(list)
        for run in history.by_uid.values():
            found["duplicates"] += judge.duplicates(run)
            found["after_the_end"] += judge.after_the_end(run)
            found["terminal_changed"] += judge.terminal_changed(run)
            found["counters_fell"] += judge.counters_fell(run)
            found["left_behind"] += judge.left_behind(run)
            if run.uid in expected:
                found["lost"] += judge.lost(run, expected[run.uid])
                found["miscounted"] += judge.miscounted(run, expected[run.uid])
                phase = (run.last.status if run.last else {}).get("phase")
                self.findings.phases[str(phase)] += 1
        unseen = sorted(expected.keys() - history.by_uid.keys())
        found["lost"] += [f"the run of uid {uid} was never seen" for uid in unseen]
        found["late"] += self._people.late
        found["gaps"] += ["the watch of the harness was interrupted"] * history.gaps
        found["defects"] += defects
        self.findings.violations = dict(found)

    def judge_writes(self) -> None:
        """Once the API server has recorded all of them."""
        folder, log = self._plane.audit_log.parent, self._plane.audit_log
        lines = [
            line
            for file in sorted(folder.glob(f"{log.stem}*{log.suffix}"))  # it is rotated
            for line in file.read_text().splitlines()
        ]
        found = self.findings
        found.writes, found.written = writes_by_run(lines, USER)
        lives: defaultdict[str, list[RunRecord]] = defaultdict(list)
        for run in self._witness.history.by_uid.values():
            lives[f"{run.namespace}/{run.name}"].append(run)
        found.violations["fenced"] = fenced(lines, USER)
        found.violations["too_many_writes"] = judge.too_many_writes(found.writes, lives)


def tell(text: str) -> None:
    """On standard error."""
    print(text, file=sys.stderr, flush=True)


def dump(findings: Findings, folder: Path) -> None:
    """Keep every violation."""
    (folder / "violations.json").write_text(json.dumps(findings.violations, indent=1))
