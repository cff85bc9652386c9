"""Requests to a judge and its answers, as documents: no network, no clock."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from evalrun_api import reasons
from evalrun_api.digests import feed
from evalrun_api.errors import fail
from evalrun_api.judge import JudgeSpec

CALLS = {"chat/completions": "choices", "completions": "choices", "responses": "output"}
"""The calls that are recorded, and the list that an answer to each has to hold."""

NOT_ASKED = frozenset(
    {
        "metadata",
        "prompt_cache_key",
        "safety_identifier",
        "service_tier",
        "store",
        "stream",
        "stream_options",
        "user",
    }
)
"""Parts of a request that say nothing of what is asked."""

_DEPLOYMENT = re.compile(r"/deployments/([^/]+)/")


@dataclass(frozen=True)
class JudgeRequest:
    """What a task asks the judge.

    call: one of `CALLS`. body: as it is sent. digest: of the judge's address and what is asked.
    streamed: whether the task wants its answer as a stream; the server is asked for a whole one.
    """

    call: str
    body: Mapping[str, Any]
    digest: str
    streamed: bool


def judge_request(spec: JudgeSpec, target: str, body: Any) -> JudgeRequest:
    """The request that a task posted to `target` (a path, with or without a query).

    Raises `EvalrunError` for what is no request to a judge.
    """
    path = urlsplit(target).path.rstrip("/")
    call = next((call for call in CALLS if path.endswith(f"/{call}")), None)
    if call is None:
        what = f"a benchmark asks the judge for {shown(path)}; recorded are {', '.join(CALLS)}"
        raise fail(
            reasons.JUDGE_REFUSED, "spec.benchmarks", what, "Leave the benchmark out of this run"
        )
    if not isinstance(body, dict):
        what = f"a benchmark's request to the judge ({shown(path)}) is not a JSON object"
        raise fail(
            reasons.JUDGE_REFUSED, "spec.benchmarks", what, "Leave the benchmark out of this run"
        )
    sent = {key: value for key, value in body.items() if key not in ("stream", "stream_options")}
    sent["model"] = spec.model or _model(path, body)
    asked = {key: value for key, value in sent.items() if key not in NOT_ASKED}
    hasher = hashlib.sha256()
    feed(hasher, {"v": 1, "endpoint": spec.endpoint.rstrip("/"), "call": call, "asked": asked})
    return JudgeRequest(call, sent, hasher.hexdigest(), bool(body.get("stream")))


def shown(path: str) -> str:
    """A path of the proxy for a person: without the token."""
    return "/" + path.lstrip("/").partition("/")[2] if path.count("/") > 1 else path


def _model(path: str, body: Mapping[str, Any]) -> str:
    model = body.get("model")
    if isinstance(model, str) and model:
        return model
    if found := _DEPLOYMENT.search(path):
        return unquote(found[1])
    what = "the benchmark names no model for its judge"
    raise fail(reasons.INVALID_SPEC, "spec.evaluation.judge.model", what, "Set it")


def is_answer(call: str, response: Any) -> bool:
    """Whether a server's JSON is an answer, and no error in the clothes of one."""
    if not isinstance(response, dict) or response.get("error"):
        return False
    entries = response.get(CALLS[call])
    if not isinstance(entries, list) or not entries:
        return False
    if call == "chat/completions":
        return all(isinstance(e, dict) and isinstance(e.get("message"), dict) for e in entries)
    return True


def tokens_of(response: Any) -> tuple[int, int]:
    """(prompt, verdict) tokens as the server reports them; 0 where it does not."""
    usage = response.get("usage") if isinstance(response, dict) else None
    if not isinstance(usage, dict):
        return 0, 0
    given = (
        usage.get("prompt_tokens", usage.get("input_tokens")),
        usage.get("completion_tokens", usage.get("output_tokens")),
    )
    read = [value if isinstance(value, int) and 0 <= value < 2**40 else 0 for value in given]
    return read[0], read[1]


def as_stream(call: str, response: Mapping[str, Any]) -> bytes:
    """A whole answer as a stream of server-sent events, for a task that asked for one."""
    chunk = dict(response)
    if call == "chat/completions":
        chunk["object"] = "chat.completion.chunk"
        chunk["choices"] = [
            {**{k: v for k, v in choice.items() if k != "message"}, "delta": choice["message"]}
            for choice in response["choices"]
        ]
    return b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n"
