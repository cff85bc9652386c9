"""Commands for a cluster that the guide names exist, with their options.

They are not run where they stand: they need a cluster, and take as long as a run.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from evalrun_cli.main import app

pytestmark = pytest.mark.contract

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "cluster-cli.md"
PROGRAM: Any = typer.main.get_command(app)
COMMAND = re.compile(r"^(?:\$ )?((?:kubectl )?evalrun(?: .+)?)$", re.MULTILINE)


def command_lines() -> list[str]:
    """What a reader can type: in fences and in the text. A shell's own part is left out."""
    text = PAGE.read_text()
    fences = re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    spans = [span.replace("\n", " ") for span in re.findall(r"`([^`]+)`", prose)]
    found = COMMAND.findall("\n".join([*fences, *spans]))
    return sorted({re.split(r" (?:>|&&|\|) ", line)[0] for line in found})


def faults(line: str) -> list[str]:
    """What of a command line does not exist."""
    words = shlex.split(line)
    words = words[words.index("evalrun") + 1 :]
    if not words:
        return []
    command = PROGRAM.commands.get(words[0])
    if command is None:
        return [words[0]]
    with typer.Context(command, info_name=words[0]) as context:
        known = {
            option: parameter
            for parameter in command.get_params(context)
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
    missing, rest = [], iter(words[1:])
    places = sum(parameter.param_type_name == "argument" for parameter in known.values())
    for word in rest:
        if not word.startswith("-") or word == "-":
            places -= 1
            continue
        option, separator, _ = word.partition("=")
        if option not in known:
            missing.append(option)
        elif not separator and not getattr(known[option], "is_flag", False):
            next(rest, None)  # its value; where the text speaks of the option alone there is none
    takes_many = any(parameter.nargs == -1 for parameter in known.values())
    return missing + (["an argument too many"] if places < 0 and not takes_many else [])


@pytest.mark.parametrize("line", command_lines())
def test_a_command_of_the_guide_exists_with_its_options(line: str) -> None:
    assert faults(line) == []


def test_all_of_the_guides_commands_are_found() -> None:
    lines = command_lines()
    assert "evalrun apply benchmark.yaml run.yaml --wait" in lines
    assert "evalrun apply run.yaml --wait --timeout 2h -o json" in lines
    assert "evalrun cancel NAME --delete" in lines
    assert "kubectl evalrun results" in lines


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("evalrun stop x", ["stop"]),
        ("evalrun watch x --folow", ["--folow"]),
        ("kubectl evalrun logs x --tail 5 y", ["an argument too many"]),
        ("evalrun logs x --step=answer -f --nmaespace t", ["--nmaespace"]),
    ],
)
def test_one_that_does_not_exist_is_found(line: str, told: list[str]) -> None:
    assert faults(line)[:1] == told
