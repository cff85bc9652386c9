"""One look of the operator at its run: the real Store, reconcile and Executor.

The Executor runs as it is, against an API server that lives in the state. It is a coroutine that
nothing here suspends, so a look is one call.
"""

from __future__ import annotations

from typing import Any, cast

from evalrun_api.operator_config import OperatorConfig
from evalrun_operator import executor, reconcile
from evalrun_operator.api_errors import ApiError
from evalrun_operator.cluster import Cluster
from evalrun_operator.decisions import Observed, Plan
from evalrun_operator.pacing import Pacing
from model_check.documents import NOW
from model_check.events import hear, repeat
from model_check.server import Api, Fault, Killed, Look
from model_check.states import KEY, Draft

MANY_PLANS = 5_000
"""That are remembered: mostly the same state is looked at again, with another fault."""

HELD = 10.0
"""Seconds for which a write that can wait is held back."""


class Pace:
    """Whether what can wait is written at once, or held back."""

    def __init__(self, *, holds: bool) -> None:
        self._holds = holds

    def wait(self, uid: str, *, is_progress: bool) -> float:
        return HELD if self._holds else 0.0

    def look_again_seconds(self, wait: float, *, is_progress: bool) -> float:
        return wait

    def written(self, uid: str, *, is_progress: bool) -> None: ...

    def forget(self, uid: str) -> None: ...


class Operator:
    """Looks at the run, as the Controller would. It decides once about what it sees often."""

    def __init__(self, config: OperatorConfig) -> None:
        self._config = config
        self._plans: dict[tuple[Any, ...], Plan] = {}

    def look(
        self,
        draft: Draft,
        key: tuple[Any, ...],
        look: Look,
        *,
        fault: Fault | None = None,
        holds: bool = False,
    ) -> None:
        """One look. key: of all that it sees, for `reconcile` is a function of that."""
        memory = draft.memory
        assert memory is not None
        observed = memory.observe(KEY)
        if observed is None:
            return
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) > MANY_PLANS:
                self._plans.clear()
            plan = self._plans[key] = reconcile.reconcile(observed, NOW, self._config)
        look.again = plan.requeue_after
        before = dict(draft.cluster.objects)
        server = cast(Cluster, Api(draft, look, fault, observed))
        pace = cast(Pacing, Pace(holds=holds))
        doer = executor.Executor(server, memory, pace, lambda: NOW, lambda run: None)
        self._run(doer, observed, plan, look)
        if look.outcome == "crashed":
            draft.memory = None
        else:
            hear(draft, before)
            repeat(draft)

    @staticmethod
    def _run(doer: executor.Executor, observed: Observed, plan: Plan, look: Look) -> None:
        doing = doer.execute(KEY, observed, plan)
        try:
            doing.send(None)
        except StopIteration as done:
            look.again = done.value
        except executor.Again:
            look.outcome, look.again = "again", 0.0
        except ApiError as error:
            look.outcome, look.again = f"failed: {type(error).__name__}", 0.0
        except Killed:
            look.outcome, look.again = "crashed", None
        finally:
            doing.close()
