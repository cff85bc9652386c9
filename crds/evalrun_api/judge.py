"""The model that judges answers: where it is asked, and what it may cost."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from evalrun_api.document import Document, ShortText
from evalrun_api.sources import ADDRESS_PATTERN, SecretKey

Price = Annotated[float, Field(ge=0, le=1e6)]


class JudgeBudget(Document):
    """What judging may take in all; a recorded verdict takes nothing."""

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
    """What judging took.

    requests: sent to the server, failed ones included. recorded: verdicts that were in the journal.
    failures: requests that the server did not answer; they were sent again.
    cost: at the run's prices.
    """

    requests: Annotated[int, Field(ge=0, le=2**53)] = 0
    recorded: Annotated[int, Field(ge=0, le=2**53)] = 0
    failures: Annotated[int, Field(ge=0, le=2**53)] = 0
    input_tokens: Annotated[int, Field(ge=0, le=2**53)] = 0
    output_tokens: Annotated[int, Field(ge=0, le=2**53)] = 0
    cost: Annotated[float, Field(ge=0, le=1e12)] = 0.0
