"""What a backend returned, as JSON and back, so that lmms-eval cannot tell the difference.

lmms-eval takes strings, `GenerationResult`, tuples (log-likelihood, is greedy) and lists of
strings (one a round), and treats them differently; replay has to give back the same kind.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from lmms_eval.api.instance import GenerationResult, TokenCounts

from evalrun_api.journal import TokenUsage


def encode(output: Any) -> tuple[Any, TokenUsage | None]:
    """A backend's output as (JSON value, token usage). Raises TypeError for what has no form."""
    if isinstance(output, GenerationResult):
        counts = output.token_counts
        usage = (
            TokenUsage(
                input=counts.input_tokens,
                output=counts.output_tokens,
                reasoning=counts.reasoning_tokens,
            )
            if counts is not None
            else None
        )
        return {"$generation": _encode(output.text)}, usage
    return _encode(output), None


def decode(response: Any, usage: TokenUsage | None) -> Any:
    """The output that was encoded."""
    if isinstance(response, dict) and "$generation" in response:
        counts = (
            TokenCounts(
                input_tokens=usage.input,
                output_tokens=usage.output,
                reasoning_tokens=usage.reasoning,
            )
            if usage is not None
            else None
        )
        return GenerationResult(text=_decode(response["$generation"]), token_counts=counts)
    return _decode(response)


def is_empty(response: Any) -> bool:
    """Whether an encoded output says nothing: what backends return when they swallow an error."""
    if isinstance(response, dict):
        return any(is_empty(value) for value in response.values() if not isinstance(value, float))
    if isinstance(response, str):
        return not response.strip()
    if isinstance(response, list):
        return not response or all(is_empty(entry) for entry in response)
    return response is None


def _encode(value: Any) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.bool_):
        return {"$bool_": bool(value)}
    if isinstance(value, np.float32):
        return {"$float32": _encode(float(value))}
    if isinstance(value, np.float64):
        return {"$float64": _encode(float(value))}
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, tuple):
        return {"$tuple": [_encode(entry) for entry in value]}
    if isinstance(value, list):
        return [_encode(entry) for entry in value]
    if isinstance(value, dict):
        if any(not isinstance(key, str) or key.startswith("$") for key in value):
            raise TypeError(f"an answer holds a mapping with keys {list(value)[:3]!r}")
        return {key: _encode(entry) for key, entry in value.items()}
    raise TypeError(f"an answer holds a {type(value).__name__}, which has no form in the journal")


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((mark, inner),) = value.items()
        if mark == "$tuple":
            return tuple(_decode(entry) for entry in inner)
        if mark == "$float":
            return float(inner)
        if mark == "$float32":
            return np.float32(_decode(inner))
        if mark == "$float64":
            return np.float64(_decode(inner))
        if mark == "$bool_":
            return np.bool_(inner)
    return {key: _decode(entry) for key, entry in value.items()}
