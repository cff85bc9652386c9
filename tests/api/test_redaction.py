"""Secrets in foreign text are hidden by their form; the rest of the text stays."""

from __future__ import annotations

import json
import time

import pytest

from evalrun_api.redaction import json_line, redacted

pytestmark = pytest.mark.decisions

HUB = "hf_0123456789abcdefghijklmnopqrstuv"
MODEL = "sk-ant-api03-0123456789abcdefghij"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"401 for {HUB}.", "401 for [secret]."),
        (f"Incorrect API key provided: {MODEL}", "Incorrect API key provided: [secret]"),
        ("key AKIAIOSFODNN7EXAMPLE is unknown", "key [secret] is unknown"),
        ("ASIAIOSFODNN7EXAMPLE", "[secret]"),
        ("ghp_0123456789abcdefghijABCD", "[secret]"),
        ("glpat-0123456789abcdefghij", "[secret]"),
        ("xoxb-123456789012-abcdef", "[secret]"),
        ("Authorization: Bearer abc.def-123456", "Authorization: Bearer [secret]"),
        ("{'Authorization': 'Basic dXNlcjpwYXNz'}", "{'Authorization': 'Basic [secret]'}"),
        ("authorization: ApiKey abcdefgh", "authorization: ApiKey [secret]"),
        ("sent ApiKey abcdefgh12345678 to it", "sent ApiKey [secret] to it"),
        ("HF_TOKEN=abcdefgh is set", "HF_TOKEN=[secret] is set"),
        ("HUGGINGFACEHUB_API_TOKEN=abcdefgh", "HUGGINGFACEHUB_API_TOKEN=[secret]"),
        ("{'x-api-key': 'abcdefgh12345'}", "{'x-api-key': '[secret]'}"),
        ("X-Api-Key: abcdefgh12345", "X-Api-Key: [secret]"),
        ("vllm serve --api-key abcdefgh12345", "vllm serve --api-key [secret]"),
        ('{"WANDB_TOKEN": "abcdefgh"}', '{"WANDB_TOKEN": "[secret]"}'),
        ("nvapi-0123456789abcdefghij", "[secret]"),
        ("sent bearer abcdefgh12345678 to it", "sent bearer [secret] to it"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-_d", "[secret]"),
        ("http://me:pa55@host:80/x is away", "http://[secret]@host:80/x is away"),
        (f"https://{HUB}@huggingface.co/x", "https://[secret]@huggingface.co/x"),
        (
            "https://b.example.com/k?X-Amz-Signature=00ff&X-Amz-Date=20260101",
            "https://b.example.com/k?X-Amz-Signature=[secret]&X-Amz-Date=20260101",
        ),
        ("GET /v1?api_key=abc123&q=1", "GET /v1?api_key=[secret]&q=1"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7", "AWS_SECRET_ACCESS_KEY=[secret]"),
        ('{"api_key": "abcd1234", "n": 1}', '{"api_key": "[secret]", "n": 1}'),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nnext",
            "[secret]\nnext",
        ),
        ("-----BEGIN PRIVATE KEY-----\nMIIE", "[secret]"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, told: str) -> None:
    assert redacted(text) == told
    assert redacted(told) == told


@pytest.mark.parametrize(
    "text",
    [
        "spec.model.args.api_key: it has a field of its own. Use spec.model.source.endpoint.secret",
        "envFrom: key AWS_SECRET_ACCESS_KEY: names that begin with AWS_ are reserved",
        "s3://evaluations/team/runs/team/one/0f-1/manifest.json: it is missing",
        "https://huggingface.co/Qwen/Qwen2.5-VL-7B-Instruct answered 503",
        "registry.example.com/runner@sha256:" + "0f" * 32,
        "Bearer authentication is not supported",
        "mail to team@example.com, see https://example.com/a@b",
        "the token is refused; ask for another key",
        "sk-learn and hf_evaluate are packages; Asia is large",
        "hf_token=None, high_token=12345, nvapi-settings-and-drivers",
        "see api-key endpoint-v2 of it",
        "pad_token=<pad>, eos_token_id=151643, the API key abcdefgh is unknown",
        "max_new_tokens=128, num_key_value_heads=8",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    "piece",
    [
        "eyJaaaaaaaaa-",
        "eyJaaaaaaaaa ",
        "-----BEGIN PRIVATE KEY-----",
        "a://",
        "aaaaaaaaaaaaaaaaaaaaaaaa",
        "?key=",
        "bearer ",
        "authorization:",
        "password=",
        "sk-",
        "hf_a",
        "'password' ",
    ],
)
def test_hiding_takes_linear_time(piece: str) -> None:
    text = piece * (400_000 // len(piece))
    began = time.monotonic()
    redacted(text)
    assert time.monotonic() - began < 2


def test_a_record_is_one_line_for_every_reader_and_holds_no_secret() -> None:
    odd = "a\nb\r\x0b\x0c\x1c\x85\u2028\u2029\u202e\ud800 é"
    line = json_line(
        {"message": odd, "more": [HUB, {"k": MODEL}], HUB: 1.5, "other": Exception(HUB)}
    )
    assert len(line.splitlines()) == 1
    line.encode()
    read = json.loads(line)
    assert read["message"] == odd
    assert read["more"] == ["[secret]", {"k": "[secret]"}]
    assert read["other"] == "[secret]"
    assert read["[secret]"] == 1.5
