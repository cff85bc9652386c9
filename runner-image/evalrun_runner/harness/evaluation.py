"""One settings group through lmms-eval's own `simple_evaluate`, the same way in every step."""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lmms_eval.__main__ import parse_eval_args
from lmms_eval.api.instance import GenerationResult
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.utils import get_datetime_str

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_api.plan import RunPlan, SettingsGroup
from evalrun_runner.failures import classify, describe
from evalrun_runner.harness import remote_code
from evalrun_runner.harness.agentic import Replay
from evalrun_runner.harness.backend import chat_template, model_type
from evalrun_runner.harness.journaled_model import AllAsked, JournaledModel, Respond
from evalrun_runner.harness.tasks import PlannedTasks
from evalrun_runner.journal.request_list import AGENTIC


class _OwnFaultError(Exception):
    """Carries an error of the runner's own code out of lmms-eval."""


class Evaluator:
    """lmms-eval, set up for one plan.

    submissions: where tasks write files for a benchmark's own server.
    """

    def __init__(self, plan: RunPlan, include: list[Path], submissions: Path) -> None:
        remote_code.guard(allowed=plan.security.trust_remote_code)
        self.plan = plan
        self.submissions = submissions
        self.model_type = model_type(plan)
        self.tasks = PlannedTasks(plan, include)
        self._defaults = _command_line_defaults()

    def ask(self, group: SettingsGroup, respond: Respond, *, share_task_dict: Any = None) -> None:
        """Build the group's requests and hand them to `respond`; score nothing.

        `respond` gets the list of each request type once, agentic ones too, whose rounds
        lmms-eval itself would ask for.
        `share_task_dict` is a model object that is to find its documents where lmms-eval puts them.
        """

        def hand_over(request_type: str, instances: list[Any]) -> list[Any]:
            lists = self.tasks.requests()
            if request_type != AGENTIC and [*map(id, lists.get(request_type, []))] != [
                *map(id, instances)
            ]:
                raise AssertionError(f"lmms-eval orders {request_type} requests in another way")
            for kind, of_kind in lists.items():
                respond(kind, of_kind)
            raise AllAsked

        def finish() -> None:
            raise AllAsked  # there was nothing to ask

        try:
            self._evaluate(group, hand_over, finish, share_task_dict, self.plan.max_tokens)
        except AllAsked:
            return
        raise AssertionError("lmms-eval scored without cleaning the model")

    def score(
        self, group: SettingsGroup, respond: Respond, *, share_task_dict: Any = None
    ) -> dict[str, Any]:
        """lmms-eval's results (with samples) for the outputs that `respond` gives."""
        replays: list[Replay] = []

        def give(request_type: str, instances: list[Any]) -> list[Any]:
            if request_type == AGENTIC:
                if not replays:
                    asked = self.tasks.requests()[AGENTIC]
                    episodes = zip(asked, respond(AGENTIC, asked), strict=True)
                    replays.append(Replay(list(episodes), self.pin))
                return [replays[0].next(instance) for instance in instances]
            outputs = respond(request_type, instances)
            if request_type == "loglikelihood":
                return [_kept_pair(output) for output in outputs]
            return outputs

        def finish() -> None:
            for replay in replays:
                replay.finish()
            self.pin()

        results = self._evaluate(group, give, finish, share_task_dict, None)
        if not results or not results.get("results"):
            raise fail(reasons.NO_RESULTS, f"benchmarks {', '.join(group.tasks)}", "no results")
        results["config"]["model"] = self.plan.model.backend  # not the name of our stand-in
        return results

    def pin(self) -> None:
        """Set the random state to the plan's seeds."""
        seed_everything(self.plan)

    def _evaluate(
        self,
        group: SettingsGroup,
        respond: Respond,
        finish: Callable[[], None],
        share_task_dict: Any,
        max_tokens: int | None,
    ) -> dict[str, Any]:
        plan, seed = self.plan, self.plan.seed
        self.tasks.begin(group)

        def answered(request_type: str, instances: list[Any]) -> list[Any]:
            if request_type == "generate_until" and not self.tasks.has_made(instances[0]):
                request_type = AGENTIC  # a round, whose request lmms-eval has just made
            try:
                return respond(request_type, instances)
            except (EvalrunError, AllAsked):
                raise
            except Exception as error:  # ours, and not to be blamed on the benchmark
                raise _OwnFaultError from error

        model = JournaledModel(self.model_type == "simple", answered, finish)
        if share_task_dict is not None:
            model.task_dict = share_task_dict
        if plan.apply_chat_template:
            model.apply_chat_template, model.tokenizer_name = chat_template(plan)
        try:
            results: dict[str, Any] = simple_evaluate(
                model=model,
                model_args=model_args_text(plan),
                tasks=sorted(set(group.tasks)),  # as the command line has them: draws go by order
                num_fewshot=group.few_shot,
                batch_size=group.batch_size,
                max_batch_size=plan.max_batch_size,
                limit=group.limit,
                offset=group.offset,
                log_samples=True,
                system_instruction=plan.system_instruction,
                apply_chat_template=plan.apply_chat_template,
                fewshot_as_multiturn=plan.few_shot_as_multiturn,
                predict_only=plan.predict_only,
                max_tokens=max_tokens,
                task_manager=self.tasks,
                random_seed=seed.python,
                numpy_random_seed=seed.numpy,
                torch_random_seed=seed.torch,
                fewshot_random_seed=seed.few_shot,
                cli_args=self._arguments(group),
                datetime_str=get_datetime_str(timezone="UTC"),
                force_simple=plan.force_simple,
                repeats=group.repeats,
                process_docs_parallel=1,  # scorers that draw random numbers stay repeatable
            )
        except (EvalrunError, AllAsked):
            raise
        except _OwnFaultError as error:
            raise (error.__cause__ or error)  # noqa: B904  # the cause has its own chain
        except Exception as error:
            where = f"benchmarks {', '.join(group.tasks)}"
            what = f"lmms-eval fails on it: {describe(error)}"
            raise fail(classify(error, reasons.BENCHMARK_UNUSABLE), where, what) from error
        return results

    def _arguments(self, group: SettingsGroup) -> argparse.Namespace:
        """What the command line would have been: tasks read media and tag settings from it."""
        plan = self.plan
        arguments = argparse.Namespace(**vars(self._defaults))
        arguments.model = plan.model.backend
        arguments.model_args = model_args_text(plan)
        arguments.tasks = ",".join(group.tasks)
        arguments.batch_size = group.batch_size
        arguments.limit = group.limit
        arguments.offset = group.offset
        arguments.num_fewshot = group.few_shot
        arguments.repeats = group.repeats
        arguments.system_instruction = plan.system_instruction
        arguments.process_with_media = plan.process_with_media
        arguments.force_simple = plan.force_simple
        arguments.log_samples = plan.log_samples or plan.predict_only
        arguments.predict_only = plan.predict_only
        arguments.apply_chat_template = plan.apply_chat_template
        arguments.fewshot_as_multiturn = plan.few_shot_as_multiturn
        arguments.max_batch_size = plan.max_batch_size
        arguments.max_tokens = plan.max_tokens
        arguments.agentic_trace_mode = plan.agentic_trace_mode.lower()
        if plan.reasoning_tags is not None:
            pairs = [[tag.start, tag.end] for tag in plan.reasoning_tags]
            arguments.reasoning_tags = json.dumps(pairs) if pairs else "none"
        arguments.process_docs_parallel = 1
        arguments.output_path = str(self.submissions)
        seed = plan.seed
        arguments.seed = [seed.python, seed.numpy, seed.torch, seed.few_shot]
        return arguments


def _kept_pair(output: Any) -> Any:
    """(log-likelihood, is greedy), in a form in which it reaches the scorer.

    lmms-eval makes text of a bare pair, on which its own multiple choice then fails: decision 18.
    """
    return GenerationResult(text=output) if isinstance(output, tuple) else output


def seed_everything(plan: RunPlan) -> None:
    """Pin the random state, so that what went before (loading, answering) cannot move a score."""
    random.seed(plan.seed.python)
    np.random.seed(plan.seed.numpy)  # lmms-eval's tasks use the global generator
    torch.manual_seed(plan.seed.torch)


def model_args_text(plan: RunPlan) -> str:
    """The model's arguments as lmms-eval's command line spells them, for the record."""
    source = plan.model.source
    if source.hugging_face:
        weights = source.hugging_face.repo
    elif source.volume:
        weights = f"{source.volume.claim_name}/{source.volume.path}".rstrip("/")
    else:
        weights = source.endpoint.model if source.endpoint else ""
    values = {plan.model.source_arg: weights, **plan.model.args}
    return ",".join(f"{key}={value}" for key, value in values.items())


def _command_line_defaults() -> argparse.Namespace:
    """The defaults of the installed lmms-eval's own parser, which reads `sys.argv`."""
    given, sys.argv = sys.argv, ["lmms-eval"]
    defaults: argparse.Namespace
    try:
        _, defaults = parse_eval_args()
    finally:
        sys.argv = given
    return defaults
