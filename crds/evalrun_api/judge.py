"""The model that judges answers: where it is asked, what it may cost, what it said."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from evalrun_api.document import Document, JsonValue, Sha256, ShortText
from evalrun_api.sources import ADDRESS_PATTERN, SecretKey

VERDICT_VERSION: Final = 1
JUDGE_KEY_VARIABLE: Final = "EVALRUN_JUDGE_API_KEY"
"""In which the process that scores is given the judge's key."""

Price = Annotated[float, Field(ge=0, le=1e6)]


class JudgeBudget(Document):
    """What judging may take in all, over all attempts of a run.

    A verdict that was recorded by another run, or by an earlier scoring, takes nothing.
    """

    requests: Annotated[int, Field(ge=1, le=2**53)] | None = Field(
        default=None, description="Requests to the judge."
    )
    tokens: Annotated[int, Field(ge=1, le=2**53)] | None = Field(
        default=None, description="Tokens that the judge reports, in and out."
    )


class JudgePrices(Document):
    """What the judge costs, for a million tokens, in the administrator's currency."""

    input: Price = Field(default=0.0, description="Of a million tokens of the prompt.")
    output: Price = Field(default=0.0, description="Of a million tokens of the verdict.")


class JudgeSpec(Document):
    """A server that speaks the OpenAI API, asked by the score pod alone."""

    endpoint: Annotated[str, StringConstraints(max_length=2048, pattern=ADDRESS_PATTERN)] = Field(
        description="Base address, for example https://api.openai.com/v1."
    )
    model: ShortText | None = Field(
        default=None, description="Model to ask, whatever model the benchmark names."
    )
    secret: SecretKey | None = Field(default=None, description="Where the API key is kept.")
    budget: JudgeBudget = Field(default_factory=JudgeBudget, description="What judging may take.")
    prices: JudgePrices = Field(default_factory=JudgePrices, description="What the judge costs.")


class JudgeUsage(Document):
    """What judging took, over all attempts of a run.

    requests: sent to the server, failed ones included. recorded: verdicts that the run was given
    without paying for them, because another run, or an earlier scoring, had bought them.
    failures: requests that the server did not answer; they were sent again.
    cost: at the run's prices.
    """

    requests: Annotated[int, Field(ge=0, le=2**53)] = 0
    recorded: Annotated[int, Field(ge=0, le=2**53)] = 0
    failures: Annotated[int, Field(ge=0, le=2**53)] = 0
    input_tokens: Annotated[int, Field(ge=0, le=2**53)] = 0
    output_tokens: Annotated[int, Field(ge=0, le=2**53)] = 0
    cost: Annotated[float, Field(ge=0, le=1e12)] = 0.0


class Verdict(Document):
    """What the judge answered to one request, as a line of JSON in a segment of its journal.

    request: sha256 over the judge's address and what it was asked. draw: which of the answers to
    equal requests of one scoring this is: at a temperature above 0 each is another draw.
    run: uid of the run that paid for it. response: the server's JSON, as it came.
    failures: requests that failed before this one did not.
    """

    v: Literal[1] = VERDICT_VERSION
    request: Sha256
    draw: Annotated[int, Field(ge=0)]
    run: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    response: JsonValue
    input_tokens: Annotated[int, Field(ge=0, le=2**53)] = 0
    output_tokens: Annotated[int, Field(ge=0, le=2**53)] = 0
    failures: Annotated[int, Field(ge=0)] = 0
    seconds: float = 0.0
