"""The device that answers, as torch sees it. torch is imported with the backend, never by this."""

from __future__ import annotations

import gc
import sys

from evalrun_api.plan import RunPlan


def name_of_device(plan: RunPlan) -> str | None:
    """What answers, as torch names it; None for a server, into which we do not see."""
    if plan.is_remote:
        return None
    torch = sys.modules.get("torch")
    if plan.accelerators and torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return "cpu"


def free_memory() -> None:
    """Give back what failed calls left on an accelerator, so that a smaller batch finds room."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
