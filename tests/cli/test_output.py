"""Documents on a terminal and in a pipe."""

from __future__ import annotations

import json
import sys

import pytest
import yaml

from evalrun_cli.output import Format, print_document

pytestmark = pytest.mark.decisions

DOCUMENT = {"message": "\x1b[2J \u009b2J \u202eturned\u2069 größer"}


@pytest.mark.parametrize("form", [Format.JSON, Format.YAML])
@pytest.mark.parametrize("terminal", [True, False])
def test_a_document_cannot_command_a_terminal_and_stays_as_it_is_in_a_pipe(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    form: Format,
    terminal: bool,
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    print_document(DOCUMENT, form)
    text = capsys.readouterr().out
    assert (json.loads if form == Format.JSON else yaml.safe_load)(text) == DOCUMENT
    assert text.isascii() is terminal
    assert terminal or "größer" in text
    if terminal:
        assert text.replace("\n", "").isprintable()
