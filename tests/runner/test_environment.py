"""Secrets as environment variables: only under names that are not reserved."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from evalrun_api.errors import Refused
from evalrun_runner import given_secrets
from evalrun_runner.environment import adopt_env_from

pytestmark = pytest.mark.decisions


def test_keys_of_a_secret_become_variables_and_set_ones_win() -> None:
    environment = {"EVALRUN_FROM_A": "1", "EVALRUN_FROM_B": "2", "B": "mine"}
    adopt_env_from(environment)
    assert environment == {"A": "1", "B": "mine"}


@pytest.mark.parametrize(
    "name",
    [
        *("LD_PRELOAD", "PYTHONPATH", "HF_ENDPOINT", "OPENAI_BASE_URL", "EVALRUN_FROM_X"),
        *("PATH", "AWS_ENDPOINT_URL", "AZURE_ENDPOINT", "HOME", "TRITON_CACHE_DIR"),
    ],
)
def test_a_reserved_name_is_refused_without_its_value(
    name: str, show_message: Callable[[object, str], None]
) -> None:
    environment = {f"EVALRUN_FROM_{name}": "s3cret", "OTHER": "x"}
    with pytest.raises(Refused) as refused:
        adopt_env_from(environment)
    assert name in str(refused.value)
    assert "s3cret" not in str(refused.value)
    assert environment == {"OTHER": "x"}
    show_message(refused.value.reason.name, str(refused.value))


def test_secrets_are_hidden_in_foreign_words_also_where_those_were_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(given_secrets, "_known", set())
    given_secrets.tidy(
        {"OPENAI_API_KEY": "sk-0123456789abcdef", "WANDB_TOKEN": "EMPTY", "A": "bcde"}
    )
    hide = given_secrets.without_secrets
    assert hide("refused: sk-0123456789abcdef, sorry") == "refused: [secret], sorry"
    assert hide("refused: sk-0123456789ab") == "refused: [secret]"
    assert hide("EMPTY bcde sk-01234 sk-01234567, no") == "EMPTY bcde sk-01234 sk-01234567, no"


@pytest.mark.parametrize("given", [None, "random", "7"])
def test_every_process_of_a_run_lists_a_set_in_the_same_order(given: str | None) -> None:
    listing = "list({'red', 'green', 'blue', 'grey'})"
    code = "import signal; from evalrun_runner.__main__ import pin_hashes; pin_hashes()\n"
    code += f"print({listing}, signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    environment = plain if given is None else {**plain, "PYTHONHASHSEED": given}
    wanted = {**plain, "PYTHONHASHSEED": "7" if given == "7" else "0"}

    def said(environment: dict[str, str], code: str) -> str:
        command = [sys.executable, "-P", "-c", code]
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True
        ).stdout

    assert said(environment, code) == said(wanted, f"print({listing}, set())")
