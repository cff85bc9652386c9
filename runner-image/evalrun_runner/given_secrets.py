"""Secrets as this process was given them: such that no library shows one in an error.

A Secret that was made from a file ends with a line break. HTTP libraries refuse such a header and
quote it, key and all, in an error that ends up in the log, the termination message and the status.
So what surrounds a secret is cut off before anybody uses it, and what cannot be one is refused.

Servers quote a key that they refuse, too, and a backend passes that on as its answer. So foreign
words go through `without_secrets` before they are journaled, and through `for_people`, which hides
too what only looks like a secret, before they are logged or reported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping

from evalrun_api import reasons
from evalrun_api.errors import fail
from evalrun_api.judge import JUDGE_KEY_VARIABLE
from evalrun_api.redaction import HIDDEN, redacted

NAMES = (
    "HF_TOKEN",
    "OPENAI_API_KEY",
    JUDGE_KEY_VARIABLE,
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
)
_NAMED = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)S?$")
"""How the names of variables end that hold secrets, those out of a user's own Secret too."""
SHORTEST = 8
"""Characters of a secret that is worth hiding: shorter ones are words, such as EMPTY."""

_known: set[str] = set()


def tidy(environment: MutableMapping[str, str]) -> None:
    """Cut white space off the secrets, and drop empty ones.

    Raises `EvalrunError`, which names the variable alone, for one that no header can hold.
    """
    for name in NAMES:
        if name not in environment:
            continue
        value = environment[name].strip()
        if not value:
            del environment[name]
        elif not (value.isascii() and value.isprintable()):
            what = "it holds characters that no key has (line breaks, control or accented ones)"
            remedy = "Correct the Secret's value, or the variable on a laptop"
            raise fail(reasons.CREDENTIALS_REFUSED, name, what, remedy)
        else:
            environment[name] = value
    remember(environment)


def remember(environment: Mapping[str, str]) -> None:
    """From now on `without_secrets` hides what the variables hold that are named as secrets are."""
    named = (value.strip() for name, value in environment.items() if _NAMED.search(name))
    _known.update(value for value in named if len(value) >= SHORTEST)


def without_secrets(text: str) -> str:
    """Foreign words without any secret of this process, also where they were cut within it."""
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
        if (at := text.rfind(secret[:SHORTEST])) >= 0 and secret.startswith(text[at:]):
            text = text[:at] + HIDDEN
    return text


def for_people(text: str) -> str:
    """Foreign words without the secrets of this process, and without what looks like one.

    Not for answers: what a model says stays as it is.
    """
    return redacted(without_secrets(text))


def hidden(text: str, secret: str | None) -> str:
    """A server's or a library's words without the secret that they may quote."""
    return text.replace(secret.strip(), HIDDEN) if secret and secret.strip() else text
