"""What runs in the pods, and on a laptop: prepare, answer and score over one plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalrun_runner.lmms_eval_runner import LMMSEvalRunner

__all__ = ["LMMSEvalRunner"]


def __getattr__(name: str) -> Any:
    """`LMMSEvalRunner`, imported when it is asked for: no step of a run needs it."""
    if name == "LMMSEvalRunner":
        from evalrun_runner.lmms_eval_runner import LMMSEvalRunner

        return LMMSEvalRunner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
