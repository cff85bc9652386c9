"""Secrets in foreign text, known by their form: hidden before anybody reads it.

A library quotes the address that it could not reach, password and all; a server quotes the key that
it refused; a task prints its environment. What goes into a status, an Event, a termination message
or a log therefore passes `redacted`, on both sides: the runner also knows the values that it was
given, the operator, which may read no Secret, has the form alone.

Answers of a model never pass here: hiding part of one would change its score.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

HIDDEN: Final = "[secret]"

_BEGINS: Final = r"(?<![A-Za-z0-9_\-])"
"""Where a token may begin. Not `\\b`: a text of many beginnings would take quadratic time."""


class _Rule(NamedTuple):
    """hints: one of them stands in the lower-case text, or the pattern need not be looked for."""

    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str


_RULES: Final = (
    # A private key, to its end or to that of the text.
    _Rule(
        ("private key",),
        re.compile(
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?"
            r"(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)"
        ),
        HIDDEN,
    ),
    # scheme://user:password@host, and a user alone, which is as often a token.
    _Rule(
        ("://",),
        re.compile(r"(?<![a-z0-9+.\-])([a-z][a-z0-9+.\-]{0,20}://)[^\s/?#@]+@", re.IGNORECASE),
        rf"\1{HIDDEN}@",
    ),
    # Signed addresses, and keys in a query.
    _Rule(
        ("=",),
        re.compile(
            r"([?&](?:X-Amz-(?:Signature|Credential|Security-Token)|Signature|AWSAccessKeyId|sig|"
            r"(?:access_|auth_)?token|api[_-]?key|key|secret|password)=)[^&\s\"'<>]+",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    _Rule(
        ("authorization",),
        re.compile(
            r"(authorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?"
            r"(?:(?:bearer|basic|token|api-?key|negotiate)\s{1,3})?)"
            r"[^\s\"',;}]+",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    _Rule(
        ("bearer", "apikey", "api-key"),
        re.compile(
            rf"{_BEGINS}((?:bearer\s{{1,3}}|apikey\s{{1,3}}|--api-key[\s=]{{1,3}}"
            rf"|(?:x-)?api-key[\"']?\s{{0,3}}[:=]\s{{0,3}}[\"']?))"
            rf"(?=\S{{0,200}}\d)[A-Za-z0-9._~+/=\-]{{8,}}",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    # name=value and "name": "value"; not `name: words`, which is how a fault names a field.
    _Rule(
        ("key", "secret", "passw", "token"),
        re.compile(
            r"((?:api_?key|secret(?:_access)?_key|client_secret|password|passwd|"
            r"(?<![a-z])(?:access|api|auth|bearer|gh|github|gitlab|hf|hub|hugging_?face|job|refresh"
            r"|session|wandb)_token)(?:[\"']?=[\"']?|[\"']\s{0,3}:\s{0,3}[\"']))"
            r"(?!(?:none|null|true|false)\b)"
            r"[^\s\"',;&}]{4,}",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    # Tokens that say what they are.
    _Rule(
        ("hf_", "sk-", "nvapi-", "akia", "asia", "gh", "glpat-", "xox", "aiza", "eyj"),
        re.compile(
            _BEGINS + r"(?:"
            r"hf_[A-Za-z0-9]{16,}"
            # Names of models begin so as well: sk-vision-encoder.
            r"|sk-(?=[a-z0-9_\-]{0,100}?(?:[A-Z]|[0-9]{6}))[A-Za-z0-9_\-]{16,}"
            r"|nvapi-(?=[a-z0-9_\-]{0,100}?(?:[A-Z]|[0-9]{4}))[A-Za-z0-9_\-]{16,}"
            r"|(?:AKIA|ASIA)[A-Z0-9]{12,}"
            r"|gh[opsru]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}|glpat-[A-Za-z0-9_\-]{16,}"
            r"|xox[abeprs]-[A-Za-z0-9\-]{10,}"
            r"|AIza[A-Za-z0-9_\-]{30,}"
            r"|eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}(?:\.[A-Za-z0-9_\-]*)?"
            r")"
        ),
        HIDDEN,
    ),
)
_UNSAFE = re.compile(
    r"[\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)
"""What JSON leaves as it is, and ends a line or turns its direction for some who read it."""


def redacted(text: str) -> str:
    """The text with everything hidden that looks like a secret. Takes linear time."""
    lower = text.lower()  # a backend may log 100 MB: most texts hold no hint, and that is seen fast
    for rule in _RULES:
        if any(hint in lower for hint in rule.hints):
            text = rule.pattern.sub(rule.replacement, text)
    return text


def json_line(entry: Mapping[str, Any], hide: Callable[[str], str] = redacted) -> str:
    """A log record as JSON that is one line for every reader, its words passed through `hide`."""

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return hide(value)
        if isinstance(value, Mapping):
            return {hide(str(name)): clean(part) for name, part in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [clean(part) for part in value]
        return value if isinstance(value, bool | int | float | None) else hide(str(value))

    text = json.dumps(clean(entry), ensure_ascii=False)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
