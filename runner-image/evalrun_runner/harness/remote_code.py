"""Python code that comes with weights: run only where the run allows it.

The argument `trust_remote_code` is set on backends that have one. Many others ask transformers to
trust whatever they load, in their own code; so transformers itself is asked to trust no more than
the run does. Where it has classes of its own for a model, those are taken.
"""

from __future__ import annotations

import sys
from typing import Any

from transformers import dynamic_module_utils as loader

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail

_resolve = loader.resolve_trust_remote_code
_load = loader.get_class_in_module
_allowed = True


def guard(*, allowed: bool) -> None:
    """From now on this process runs the code of weights only if that is allowed."""
    global _allowed  # transformers is one for the whole process
    _allowed = allowed
    for name, ours, theirs in (
        ("resolve_trust_remote_code", _resolve_as_allowed, _resolve),
        ("get_class_in_module", _load_if_allowed, _load),
    ):
        for module in list(sys.modules.values()):  # those that have it by its name already
            if getattr(module, "__name__", "").startswith("transformers.") and (
                vars(module).get(name) is theirs
            ):
                setattr(module, name, ours)


def _resolve_as_allowed(
    trust_remote_code: bool | None, model_name: str, *arguments: Any, **named: Any
) -> Any:
    if _allowed:
        return _resolve(trust_remote_code, model_name, *arguments, **named)
    try:
        return _resolve(False, model_name, *arguments, **named)  # as it has it
    except ValueError as error:
        raise _refused(model_name) from error


def _load_if_allowed(class_name: str, *arguments: Any, **named: Any) -> Any:
    if not _allowed:
        raise _refused(class_name)
    return _load(class_name, *arguments, **named)


def _refused(what: str) -> EvalrunError:
    return fail(
        reasons.INVALID_SPEC,
        "spec.security.trustRemoteCode",
        f"The backend loads Python code that comes with weights ({what})",
        "Read the code, then set it to true and apply the run again",
    )
