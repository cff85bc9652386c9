"""Asking the judge's server once, and what its answer means for asking again."""

from __future__ import annotations

import email.utils
import json
import time
from dataclasses import dataclass
from typing import Any

import httpx2

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_api.judge import JudgeSpec
from evalrun_runner.given_secrets import hidden
from evalrun_runner.judges.request import JudgeRequest, is_answer

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 300.0
"""How long a judge may think about one request."""
PASSING = frozenset({408, 409, 425, 429})
"""Refusals that pass by themselves, as do all of 500 and above."""
OUT_OF_CREDIT = "insufficient_quota"
"""OpenAI says 429 also where no money is left, which no waiting brings back."""
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 60.0
LONGEST_RETRY_AFTER_SECONDS = 300.0
MAX_ANSWER_BYTES = 64 << 20
MAX_SAID = 300


@dataclass(frozen=True)
class Answered:
    """The server's JSON."""

    response: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """No answer.

    what: for a person. error: why asking again cannot help; None where it can.
    retry_after: seconds that the server wants to be left alone for.
    """

    what: str
    error: EvalrunError | None = None
    retry_after: float | None = None


class JudgeServer:
    """The server of a run's judge.

    key: for its Authorization header; None where it wants none.
    """

    def __init__(self, spec: JudgeSpec, key: str | None) -> None:
        self._spec = spec
        self._key = key
        self._base = spec.endpoint.rstrip("/")
        headers = {"Authorization": f"Bearer {key}", "api-key": key} if key else {}
        self._client = httpx2.Client(
            headers=headers,
            timeout=httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=64, max_keepalive_connections=16),
        )

    def ask(self, request: JudgeRequest) -> Answered | Failed:
        """Send the request once."""
        try:
            status, headers, data = self._sent(request)
        except httpx2.HTTPError as error:  # refused, reset, cut short, too slow
            said = hidden(str(error), self._key)
            return Failed(f"{self._base} cannot be reached ({type(error).__name__}: {said})")
        if data is None:
            return Failed(f"{self._base} does not come to the end of its answer")
        # Servers quote a key that they refuse.
        text = hidden(data.decode("utf-8", "replace"), self._key)
        if status == httpx2.codes.OK:
            try:
                answer = as_kept(data)
            except (ValueError, RecursionError):
                answer = None
            if is_answer(request.call, answer):
                return Answered(answer)
            return Failed(f"{self._base} answers 200 with no verdict: {text[:MAX_SAID]}")
        return failed(self._spec, status, headers, text)

    def _sent(self, request: JudgeRequest) -> tuple[int, dict[str, str], bytes | None]:
        """Status, headers and body of the server's answer; no body if it is too long."""
        latest = time.monotonic() + ANSWER_SECONDS
        data = bytearray()
        with self._client.stream(
            "POST",
            f"{self._base}/{request.call}",
            content=json.dumps(request.body).encode(),
            headers={"Content-Type": "application/json"},
        ) as response:
            headers = dict(response.headers)
            for part in response.iter_bytes():
                data += part
                if len(data) > MAX_ANSWER_BYTES or time.monotonic() > latest:
                    return response.status_code, headers, None
        return response.status_code, headers, bytes(data)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()


def as_kept(data: bytes) -> Any:
    """A server's JSON such that the journal gives back the same: the first scoring and a later one
    see one verdict. It has no form for half a character of UTF-16, nor for what is not a number.
    """
    read = json.loads(data, parse_constant=lambda _: None)
    return json.loads(json.dumps(read, ensure_ascii=False).encode("utf-8", "replace"))


def failed(spec: JudgeSpec, status: int, headers: dict[str, str], text: str) -> Failed:
    """What a refusal means."""
    what = f"{spec.endpoint} answers {status}: {text[:MAX_SAID].strip()}"
    where = "spec.evaluation.judge"
    if status in (401, 403):
        remedy = (
            f"Correct key {spec.secret.key} of Secret {spec.secret.name} (locally the variable "
            "EVALRUN_JUDGE_API_KEY or OPENAI_API_KEY)"
            if spec.secret
            else "Name the Secret that holds its key in evaluation.judge.secret"
        )
        error = fail(reasons.CREDENTIALS_REFUSED, f"{where}.secret", what, remedy)
        return Failed(what, error)
    if status == 429 and OUT_OF_CREDIT in text:
        remedy = "Pay the account up, then run it again"
        return Failed(what, fail(reasons.ACCESS_DENIED, f"{where}.secret", what, remedy))
    if status in PASSING or status >= 500:
        return Failed(what, retry_after=retry_after(headers, time.time()))
    field = "model" if status == 404 else "endpoint"
    return Failed(what, fail(reasons.JUDGE_REFUSED, f"{where}.{field}", what))


def retry_after(headers: dict[str, str], now: float) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110: a number, or a date)."""
    value = next((v for name, v in headers.items() if name.lower() == "retry-after"), "").strip()
    try:
        seconds = float(value)
    except ValueError:
        date = email.utils.parsedate_tz(value)
        if date is None:
            return None
        seconds = email.utils.mktime_tz(date) - now
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS) if seconds == seconds else None


def delay(failures: int, wanted: float | None, draw: float) -> float:
    """Seconds to wait after so many failures.

    Twice as long each time, between half of it and all of it (`draw` of 0 to 1), so that those who
    failed together do not come back together; never less than what the server asked for.
    """
    longest = min(FIRST_DELAY_SECONDS * 2.0 ** min(failures - 1, 16), LONGEST_DELAY_SECONDS)
    return longest * (0.5 + draw / 2) + (wanted or 0.0)
