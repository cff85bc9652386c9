"""Which of lmms-eval's scorers run text as Python: all of its task folders are looked through."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

from evalrun_api.executing import EXECUTING, executes
from evalrun_api.index import builtin_index

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]

NEED_A_KEY = {
    "auxsolidmath": "auxsolidmath/utils.py: eval of the model's answer",
    "megabench": "program_judge.py: exec of a program that the model wrote",
}
NEED_NONE = {
    "amber_g": "eval of numbers in a file of lmms-eval's own",
    "capability": "eval of the name of a method of its own",
    "charades_sta": "eval_tvg.py is a program of its own, which no task starts",
    "cinepile": "eval of the name of a function of its own",
    "mathvision": "eval of what sympy's printer makes of a parsed answer, and of a matched number",
    "sparbench": "eval of names of functions of its own",
    "vbvr": "eval of a colour that it made itself",
    "vsibench": "eval of names of functions of its own",
}
"""Read in lmms-eval 0.7.3, and why each is let through."""


def runs_text(tree: ast.AST) -> bool:
    """Whether it calls the builtins eval or exec on more than a literal."""
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("eval", "exec")
        and not (node.args and isinstance(node.args[0], ast.Constant))
        for node in ast.walk(tree)
    )


def test_every_scorer_that_runs_text_has_been_read() -> None:
    spec = importlib.util.find_spec("lmms_eval")  # does not import it
    assert spec is not None
    assert spec.origin is not None
    tasks = Path(spec.origin).parent / "tasks"
    found = set()
    for file in tasks.rglob("*.py"):
        text = file.read_text(errors="replace")
        if ("eval(" in text or "exec(" in text) and runs_text(ast.parse(text)):
            found.add(file.relative_to(tasks).parts[0])
    assert found == NEED_A_KEY.keys() | NEED_NONE.keys()


def test_the_benchmarks_that_need_a_key_are_lmms_eval_s() -> None:
    index = builtin_index()
    for beginning in EXECUTING:
        assert any(executes(name) for name in index.benchmarks if name.startswith(beginning))
    assert executes("mme") is None
    assert executes("megabenchmark") is None
