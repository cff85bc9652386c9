"""What a backend returned, as JSON and back, so that lmms-eval cannot tell the difference.

lmms-eval takes strings, `GenerationResult`, tuples (log-likelihood, is greedy) and lists of
strings (one a round), and treats them differently; replay has to give back the same kind. The
answer to an agentic request is an `Episode`: what the model said in each round.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from lmms_eval.api.instance import GenerationResult, TokenCounts

from evalrun_api.journal import TokenUsage

UNREADABLE = (TypeError, ValueError, AttributeError, LookupError, OverflowError)
"""What `decode` raises for a response that is damaged."""


@dataclass(frozen=True)
class Round:
    """What the model was asked in a round, and its output."""

    fingerprint: str
    output: Any


@dataclass(frozen=True)
class Episode:
    """One agentic request, answered. text: what lmms-eval makes of it, for a reader."""

    rounds: tuple[Round, ...]
    text: str = ""


def encode(output: Any) -> tuple[Any, TokenUsage | None]:
    """A backend's output as (JSON value, token usage). Raises TypeError for what has no form."""
    if isinstance(output, GenerationResult):
        counts = output.token_counts
        usage = (
            TokenUsage(
                input=_count(counts.input_tokens),
                output=_count(counts.output_tokens),
                reasoning=_count(counts.reasoning_tokens),
            )
            if counts is not None
            else None
        )
        return {"$generation": _encode(output.text)}, usage
    if isinstance(output, Episode):
        rounds = [_encode_round(entry) for entry in output.rounds]
        return {"$episode": rounds, "text": _encode(output.text)}, None
    return _encode(output), None


def _count(reported: Any) -> int | None:
    """A number of tokens, if that was reported: what a server says of it may be anything."""
    whole = isinstance(reported, int | np.integer) or (
        isinstance(reported, float) and reported.is_integer()
    )
    return int(reported) if whole else None


def _encode_round(entry: Round) -> dict[str, Any]:
    response, usage = encode(entry.output)
    tokens = None if usage is None else usage.document()
    return {"fingerprint": entry.fingerprint, "response": response, "tokens": tokens}


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
    if isinstance(response, dict) and "$episode" in response:
        rounds = tuple(_decode_round(entry) for entry in response["$episode"])
        return Episode(rounds, _decode(response["text"]))
    return _decode(response)


def _decode_round(entry: dict[str, Any]) -> Round:
    tokens = entry.get("tokens")
    usage = None if tokens is None else TokenUsage.model_validate(tokens)
    return Round(entry["fingerprint"], decode(entry["response"], usage))


_MARKER = re.compile(
    r"\[LMMS_EVAL_"  # backends that ask a server: …REQUEST_FAILED, …BUDGET_EXCEEDED
    r"|\[GENERATION_FAILED\]"  # world models
    r"|\[ERROR\] conditioning video not found"
    r"|Video .{1,4096} (can not load|generate failed), check the source\Z",  # llava_vid, oryx
    re.DOTALL,
)
Failure = Literal["Empty", "RequestFailed"]


def failure_of(output: Any) -> Failure | None:
    """How a backend's output fails to be an answer, if it does.

    Backends swallow exceptions and return an empty string; some return a marker that would pass for
    an answer. A log-likelihood that is not a number is as empty: it is neither more nor less likely
    than another.
    """
    text = _said(output)
    rounds = text if isinstance(text, list | tuple) else [text]
    if any(isinstance(said, str) and _MARKER.match(said) for said in rounds):
        return "RequestFailed"
    return "Empty" if all(map(_is_nothing, rounds)) or _is_nan(rounds[0]) else None


def _is_nothing(said: Any) -> bool:
    return said is None or (isinstance(said, str) and not said.strip())


def _is_nan(said: Any) -> bool:
    return isinstance(said, float | np.floating) and math.isnan(said)


def text_of(output: Any) -> str:
    """What an output says, for a message."""
    return str(_said(output))


def _said(output: Any) -> Any:
    text = output.text if isinstance(output, GenerationResult) else output
    if isinstance(text, tuple) and len(text) == 2 and isinstance(text[0], str):
        # (text, token counts); of two rounds both are texts
        return list(text) if isinstance(text[1], str) else text[0]
    return text


def _encode(value: Any) -> Any:
    if value is None:
        return {"$none": True}  # a null at the top would be left out of the record
    if isinstance(value, str):
        return value if _is_text(value) else {"$utf16": value.encode(*_UTF16).hex()}
    if isinstance(value, bool):
        return value
    if isinstance(value, TokenCounts):
        counts = [value.input_tokens, value.output_tokens, value.reasoning_tokens]
        return {"$tokens": counts}
    if isinstance(value, np.integer):
        return {"$int64": int(value)}
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
        if mark == "$none":
            return None
        if mark == "$utf16":
            return bytes.fromhex(inner).decode(*_UTF16)
        if mark == "$tokens":
            return TokenCounts(*inner)
        if mark == "$int64":
            return np.int64(inner)
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


_UTF16 = ("utf-16-le", "surrogatepass")


def _is_text(value: str) -> bool:
    """Whether it can be written as UTF-8; half a surrogate pair from a server cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
