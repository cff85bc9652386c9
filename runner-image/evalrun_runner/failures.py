"""What an exception out of foreign code means: which reason it stands for.

lmms-eval, its backends and the libraries beneath raise anything; whether trying again can help
depends on the cause, not on where it surfaced.
"""

from __future__ import annotations

import errno

from tenacity import RetryError

from evalrun_api import reasons
from evalrun_api.reasons import Reason
from evalrun_runner.given_secrets import for_people

MAX_MESSAGE = 1500

_MEMORY = (
    "CUDA out of memory",
    "HIP out of memory",
    "XPU out of memory",
    "MPS backend out of memory",
    "CUDA error: out of memory",
    "OutOfMemoryError",
    "DefaultCPUAllocator",
)
"""How torch says that memory ran out, of an accelerator or of the machine."""
_LOST = (
    "device-side assert",
    "illegal memory access",
    "unspecified launch failure",
    "uncorrectable ECC error",
    "CUDA error: misaligned address",
    "CUDA error: an illegal instruction",
    "GPU has fallen off the bus",
)
"""After one of these every further call to the accelerator fails in this process."""

_UNREACHABLE_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


def cause_of(error: BaseException) -> BaseException:
    """The exception behind a retry wrapper, which hides what went wrong."""
    while isinstance(error, RetryError):
        last = error.last_attempt.exception()
        if last is None:
            break
        error = last
    return error


def describe(error: BaseException) -> str:
    """The exception for a person, without secrets, cut to a sensible length."""
    return for_people(f"{type(error).__name__}: {error}")[:MAX_MESSAGE]


def classify(error: BaseException, otherwise: Reason) -> Reason:
    """The reason that an exception stands for: what passes by itself, or `otherwise`."""
    seen: BaseException | None = cause_of(error)
    looked_at: set[int] = set()  # `raise error from error` makes an error its own cause
    while seen is not None and id(seen) not in looked_at:
        looked_at.add(id(seen))
        if isinstance(seen, MemoryError) or _is_torch_memory(seen):
            return reasons.OUT_OF_MEMORY
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return reasons.DISK_FULL
        if isinstance(seen, ConnectionError | TimeoutError) or _is_http_trouble(seen):
            return reasons.SOURCE_UNAVAILABLE
        seen = seen.__cause__
    return otherwise


def memory_ran_out(text: str) -> bool:
    """Whether an error's text says that memory ran out."""
    return any(phrase in text for phrase in _MEMORY)


def device_is_lost(text: str) -> bool:
    """Whether an error's text says that this process can use its accelerator no more."""
    return any(phrase in text for phrase in _LOST)


def printable(text: str, length: int) -> str:
    """Foreign text on one line, without secrets, cut, and such that it can be written as UTF-8."""
    cut = " ".join(for_people(text[: 4 * length]).split())[:length]
    return cut.encode("utf-8", "replace").decode()


def _is_torch_memory(error: BaseException) -> bool:
    """Whether torch says that memory ran out, of an accelerator or of the machine."""
    return isinstance(error, RuntimeError) and (
        "OutOfMemory" in type(error).__name__ or memory_ran_out(str(error))
    )


def _is_http_trouble(error: BaseException) -> bool:
    """Whether an HTTP library (requests, httpx, hub) says that the other side is in trouble."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return status in _UNREACHABLE_STATUS
    module = type(error).__module__.partition(".")[0]
    name = type(error).__name__
    return module in ("requests", "httpx", "urllib3") and ("Connect" in name or "Timeout" in name)
