"""Going on with one unfinished attempt, where its answers are no other attempt's to use."""

from __future__ import annotations

from evalrun_api.errors import EvalrunError, Fault, Refused
from evalrun_api.plan import RunPlan
from evalrun_cli import records
from evalrun_cli.records import Attempt
from evalrun_runner.local import Store, layout

FREE_TO_DIFFER = ("store", "run")
"""A store may have moved; of the run the uid differs until it is resumed."""


def resumed(store: Store, plan: RunPlan, uid: str) -> RunPlan:
    """`plan` as the attempt whose uid begins with `uid`. Raises `EvalrunError`.

    An attempt that was to reuse no answers goes on so, whether or not it is asked for again.
    """
    attempt = unfinished(records.attempts(store, plan.run.namespace, plan.run.name), plan, uid)
    stored = records.read(store, layout.plan(attempt.run), RunPlan)
    again = plan.model_copy(update={"run": attempt.run})
    if stored.reuse_answers == "Never":
        again = again.model_copy(update={"reuse_answers": "Never"})
    if differing := differences(stored, again):
        what = f"{attempt.run.uid} was started with another plan: {', '.join(differing)} differ"
        remedy = "Give the manifests and options that it was started with, or leave --resume out"
        raise Refused([Fault("--resume", what, remedy)])
    return again


def unfinished(attempts: list[Attempt], plan: RunPlan, uid: str) -> Attempt:
    """The one attempt whose uid begins with `uid`; raises `Refused` if there is none."""
    run = plan.run.name
    planned = [attempt for attempt in attempts if "plan.json" in attempt.documents]
    chosen = [attempt for attempt in planned if attempt.run.uid == uid]
    chosen = chosen or [attempt for attempt in planned if attempt.run.uid.startswith(uid)]
    if len(chosen) != 1:
        count = "no" if not chosen else f"{len(chosen)}"
        what = f"{count} attempts of {run} in {plan.store.uri} have a uid that begins with {uid!r}"
        waiting = [attempt.run.uid for attempt in chosen or planned if not attempt.finished]
        remedy = f"Unfinished ones: {', '.join(waiting[:5])}" if waiting else "Leave --resume out"
        raise Refused([Fault("--resume", what, remedy)])
    (attempt,) = chosen
    if attempt.finished:
        what = f"{attempt.run.uid} has finished"
        remedy = f"See its scores with: evalrun results {run} {attempt.run.uid}"
        raise Refused([Fault("--resume", what, remedy)])
    return attempt


def differences(stored: RunPlan, plan: RunPlan) -> list[str]:
    """Names of the top-level fields in which two plans differ, as the plan's document has them."""
    return [
        field.alias or name
        for name, field in RunPlan.model_fields.items()
        if name not in FREE_TO_DIFFER and getattr(stored, name) != getattr(plan, name)
    ]


def needs_uid(store: Store, plan: RunPlan) -> bool:
    """Whether to go on the attempt has to be named: its answers are its own, and it was stored."""
    if plan.reuse_answers != "Never":
        return False
    try:
        return store.get(layout.plan(plan.run)) is not None
    except EvalrunError:
        return True  # a store that fails now may hold it nonetheless
