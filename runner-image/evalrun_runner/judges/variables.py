"""The environment variables by which lmms-eval's tasks find a judge, and whither they lead.

Tasks read them when they are imported, in many ways: a base address, a full one, Azure's, names of
their own. All of them are made to lead to one place, so that no judge is asked behind our back:
to the recording proxy in the process that scores, and to nowhere in the others.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

from evalrun_api.judge import JUDGE_KEY_VARIABLE

KEPT = "EVALRUN_KEPT_"
"""Before names whose value the model's own backend needs, while tasks may not see it."""

FULL_ADDRESSES = (
    "OPENAI_API_URL",
    "AZURE_ENDPOINT",
    "ENDPOINT_URL",
    "LLM_JUDGE_URL",
    "MEGABENCH_OPEN_API_URL",
    "QWEN_API_URL",
)
"""Most tasks post to these as they are; clients that append a path to them find the proxy too."""

BASE_ADDRESSES = (
    "OPENAI_BASE_URL",
    "OPENAI_API_BASE",
    "AZURE_OPENAI_ENDPOINT",
    "AZURE_OPENAI_API_BASE",
    "BABYVISION_BASE_URL",
    "IMGEDIT_BASE_URL",
    "JUDGE_BASE_URL",
    "KRIS_BENCH_BASE_URL",
    "STRUCTEDITBENCH_BASE_URL",
    "VIESCORE_API_BASE",
    "WISE_BASE_URL",
)

KEYS = (
    "OPENAI_API_KEY",
    "AZURE_API_KEY",
    "AZURE_OPENAI_API_KEY",
    "BABYVISION_API_KEY",
    "IMGEDIT_API_KEY",
    "JUDGE_API_KEY",
    "KRIS_BENCH_API_KEY",
    "MEGABENCH_OPEN_API_KEY",
    "STRUCTEDITBENCH_API_KEY",
    "VIESCORE_API_KEY",
    "WISE_API_KEY",
)

MODELS = (
    "MODEL_VERSION",
    "MODEL_NAME",
    "BABYVISION_MODEL_NAME",
    "CAPTIONQA_JUDGE_MODEL",
    "DEPLOYMENT_NAME",
    "GPT_EVAL_MODEL_NAME",
    "IMGEDIT_MODEL_NAME",
    "JUDGE_MODEL_NAME",
    "JUDGE_MODEL_VERSION",
    "KRIS_BENCH_JUDGE_MODEL_NAME",
    "MEGABENCH_OPEN_API_MODEL",
    "MULTI_CRIT_VERIFIER_MODEL",
    "OPENAI_API_MODEL",
    "OPENAI_JUDGE_MODEL",
    "STRUCTEDITBENCH_JUDGE_MODEL_NAME",
    "VIESCORE_MODEL_NAME",
    "WISE_MODEL_NAME",
)
"""Set where the run names a model: the form of a request (reasoning models) follows from them."""

HOST, PORT = "HOST", "PORT"
"""From which mme_sci makes its address."""

NAMES = (*FULL_ADDRESSES, *BASE_ADDRESSES, *KEYS, *MODELS, "API_TYPE", HOST, PORT)

NOWHERE = 9
"""The port of the discard service, on which nothing listens."""

_MARK = "EVALRUN_JUDGES_LED"


def variables(port: int, token: str, model: str | None) -> dict[str, str]:
    """What leads tasks to 127.0.0.1:`port`. The token is in every address and is every key."""
    base = f"http://127.0.0.1:{port}/{token}/v1"
    values = dict.fromkeys(FULL_ADDRESSES, f"{base}/chat/completions")
    values |= dict.fromkeys(BASE_ADDRESSES, base)
    values |= dict.fromkeys(KEYS, token)
    values |= {HOST: "127.0.0.1", PORT: str(port), "API_TYPE": "openai"}
    if model is not None:
        values |= dict.fromkeys(MODELS, model)
    return values


@contextmanager
def led(
    environment: MutableMapping[str, str], port: int, token: str, model: str | None, *, keep: bool
) -> Iterator[None]:
    """Lead judges to a port of this machine; within, the real values and the judge's key are not
    in `environment`.

    keep: keep them under other names, because the model's own backend needs them (`given`); a
    worker that is started within finds them there.
    """
    before = dict(environment)
    if keep and _MARK not in environment:
        environment.update({KEPT + name: before[name] for name in NAMES if name in before})
    environment[_MARK] = "1"
    for name in (*NAMES, JUDGE_KEY_VARIABLE):
        environment.pop(name, None)
    environment.update(variables(port, token, model))
    for name in ("NO_PROXY", "no_proxy"):  # loopback never goes through a proxy
        entries = [entry for entry in before.get(name, "").split(",") if entry]
        environment[name] = ",".join([*entries, "127.0.0.1", "localhost"])
    try:
        yield
    finally:
        environment.clear()
        environment.update(before)


@contextmanager
def given(environment: MutableMapping[str, str]) -> Iterator[None]:
    """Within, the variables are as the process was given them: for the model's own backend."""
    kept = {name for name in environment if name.startswith(KEPT)}
    if not kept:
        yield
        return
    before = {name: environment[name] for name in NAMES if name in environment}
    for name in before:
        del environment[name]
    environment.update({name.removeprefix(KEPT): environment[name] for name in kept})
    try:
        yield
    finally:
        for name in NAMES:
            environment.pop(name, None)
        environment.update(before)


def forget_given(environment: MutableMapping[str, str]) -> None:
    """No backend is constructed any more: what it needed is not left to the tasks."""
    for name in [name for name in environment if name.startswith(KEPT)]:
        del environment[name]
