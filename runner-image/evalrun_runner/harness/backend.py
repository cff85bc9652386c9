"""lmms-eval's model backends: found, checked and constructed."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable
from importlib import metadata
from typing import Any

from lmms_eval.api.model import lmms
from lmms_eval.models import MODEL_REGISTRY_V2, list_available_models
from packaging.requirements import Requirement

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_api.plan import RunPlan
from evalrun_runner.failures import classify, describe
from evalrun_runner.judges.variables import given


def model_type(plan: RunPlan) -> str:
    """ "simple" or "chat": the form of a task's prompts. Does not import the backend."""
    name = plan.model.backend
    known = list_available_models(include_aliases=True)
    if name not in known:
        near = difflib.get_close_matches(name, known)
        what = f"this lmms-eval has no backend {name!r}"
        if near:
            what += f"; did you mean {' or '.join(near)}?"
        raise fail(reasons.UNKNOWN_BACKEND, "spec.model.backend", what)
    return str(MODEL_REGISTRY_V2.resolve(name, force_simple=plan.force_simple).model_type)


def backend_class(plan: RunPlan) -> type[Any]:
    """The backend's class, its arguments checked as far as its signature tells.

    Prepare calls this too, so that a missing package or a wrong argument is found before an
    accelerator is asked for.
    """
    name = plan.model.backend
    for requirement in plan.model.requires:
        package = Requirement(requirement).name
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            what = f"{name} needs the package {package}, which is not installed here"
            remedy = f"Use an image that has it (pip install '{requirement}')"
            raise fail(reasons.BACKEND_UNUSABLE, "spec.model", what, remedy) from None
    try:
        with given(os.environ):
            found: type[Any] = MODEL_REGISTRY_V2.get_model_class(
                name, force_simple=plan.force_simple
            )
    except EvalrunError:
        raise
    except Exception as error:  # importing foreign code can raise anything
        missing = f"{type(error).__name__}: {error}"
        raise fail(
            reasons.BACKEND_UNUSABLE,
            "spec.model.backend",
            f"{name} cannot be imported here ({missing})",
            "Use an image that has what it imports, or another backend",
        ) from error
    parameters = _parameters(found)
    if not any(entry.kind is entry.VAR_KEYWORD for entry in parameters.values()):
        for key in plan.model.args:
            if key not in parameters:
                near = difflib.get_close_matches(key, list(parameters))
                hint = f"did you mean {near[0]}?" if near else "it is not one of its arguments"
                raise fail(
                    reasons.BACKEND_UNUSABLE,
                    f"spec.model.args.{key}",
                    f"backend {name} has no such argument; {hint}",
                    f"Its arguments: {', '.join(sorted(parameters))}",
                )
    if plan.max_batch_size is not None and "max_batch_size" not in parameters:
        raise fail(
            reasons.BACKEND_UNUSABLE,
            "spec.evaluation.maxBatchSize",
            f"backend {name} has no argument max_batch_size",
            "Leave it out: batches are fixed before the run, by batchSize",
        )
    if plan.few_shot_as_multiturn and not plan.apply_chat_template:
        raise fail(
            reasons.INVALID_SPEC,
            "spec.evaluation.fewShotAsMultiturn",
            "lmms-eval makes turns of worked examples only where it applies a chat template",
            "Set applyChatTemplate too, or leave it out",
        )
    if plan.apply_chat_template:
        _template_of(found, name)
    return found


def check_answers(plan: RunPlan, request_type: str) -> None:
    """Refuse requests that the backend does not answer, as far as its class tells."""
    found = getattr(backend_class(plan), request_type, None)
    if request_type == "generate_visual_cot" and found is lmms.generate_visual_cot:
        raise fail(
            reasons.UNSUPPORTED_REQUEST,
            "spec.model.backend",
            f"{plan.model.backend} has no generate_visual_cot, for visual chains of thought",
            "Use a backend that draws while it thinks, such as bagel_unig2u or qwen_image_edit, or "
            "the benchmark without _visual_cot in its name",
        )


def chat_template(plan: RunPlan) -> tuple[Callable[..., str], str]:
    """What `apply_chat_template` puts prompts through, and the name of its tokenizer.

    Prompts are built where there are no weights, so the backend's class has to have it.
    """
    found = backend_class(plan)
    name = getattr(found, "tokenizer_name", "")
    return _template_of(found, plan.model.backend), name if isinstance(name, str) else ""


def _template_of(found: type[Any], name: str) -> Callable[..., str]:
    declared = inspect.getattr_static(found, "apply_chat_template", None)
    if isinstance(declared, staticmethod | classmethod):
        template: Callable[..., str] = found.apply_chat_template
        return template
    what = "has no apply_chat_template (none of lmms-eval's own has)"
    if declared is not None:
        what = "has an apply_chat_template that needs the loaded model"
    raise fail(
        reasons.BACKEND_UNUSABLE,
        "spec.evaluation.applyChatTemplate",
        f"backend {name} {what}",
        "Leave it out: chat backends put prompts through their model's template by themselves. A "
        "backend of your own can have it as a static or class method",
    )


def construct(plan: RunPlan, source: str) -> Any:
    """The model object. `source` goes into the argument that takes the weights."""
    found = backend_class(plan)
    parameters = _parameters(found)
    arguments: dict[str, Any] = {**plan.model.args, plan.model.source_arg: source}
    if "trust_remote_code" in parameters:  # many backends would default to True
        arguments["trust_remote_code"] = plan.security.trust_remote_code
    if plan.model.source.endpoint is not None:
        arguments["base_url"] = plan.model.source.endpoint.url
    elif plan.accelerators == 0 or plan.model.args.get("device_map") == "cpu":
        arguments["device"] = "cpu"  # inputs go where the weights are
    if plan.max_batch_size is not None:
        arguments["max_batch_size"] = plan.max_batch_size
    try:
        with given(os.environ):  # its server's key is among what tasks may not see
            return found.create_from_arg_string("", {**arguments, "batch_size": plan.batch_size})
    except EvalrunError:
        raise
    except Exception as error:  # backends raise anything
        what = f"backend {plan.model.backend} could not load it: {describe(error)}"
        reason = classify(error, reasons.MODEL_LOAD_FAILED)
        raise fail(reason, "spec.model", what) from error


def _parameters(found: type[Any]) -> dict[str, inspect.Parameter]:
    """Named parameters of the class and of those it derives from."""
    merged: dict[str, inspect.Parameter] = {}
    for ancestor in reversed(found.__mro__):
        if "__init__" in vars(ancestor) and ancestor is not object:
            signature = inspect.signature(vars(ancestor)["__init__"])
            for name, parameter in list(signature.parameters.items())[1:]:
                merged[name] = parameter
    return merged
