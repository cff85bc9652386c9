"""Which of lmms-eval's task folders call a judge, and which of them the proxy hears of.

    python -m evalrun_runner.judges.survey

A survey of source text, without importing it: a folder is heard of if each file that calls a model
takes its address from a variable of `variables.py`, or from the client's own default, which is
one of them too. What a file hard-codes, it asks behind our back.
"""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from evalrun_runner.judges.variables import BASE_ADDRESSES, FULL_ADDRESSES, HOST, PORT

LED = frozenset({*FULL_ADDRESSES, *BASE_ADDRESSES, HOST, PORT})

CLIENTS = frozenset({"OpenAI", "AsyncOpenAI", "AzureOpenAI", "AsyncAzureOpenAI"})
FOREIGN = {
    "genai.Client": "Google's own API",
    "RuntimeEndpoint": "a server of SGLang's own API",
    "Anthropic": "Anthropic's own API",
}
NO_JUDGES = ("egoschema", "illusionbench")
"""They post to a benchmark's own server, or fetch data."""
MISSING_MODULE = "lmms_eval.azure_openai_compat"


@dataclass(frozen=True)
class Found:
    """A task folder that calls a judge.

    unheard: file and reason for each call that does not reach the proxy.
    """

    folder: str
    ways: frozenset[str]
    unheard: tuple[str, ...]


def tasks_folder() -> Path:
    """lmms-eval's own tasks, as they are installed."""
    spec = find_spec("lmms_eval")
    if spec is None or spec.origin is None:
        raise RuntimeError("lmms-eval is not installed here")
    return Path(spec.origin).parent / "tasks"


def survey(root: Path) -> list[Found]:
    """The task folders beneath `root` that call a judge."""
    found = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        ways: set[str] = set()
        unheard: list[str] = []
        sources = {file: file.read_text(errors="replace") for file in sorted(folder.rglob("*.py"))}
        with warnings.catch_warnings(action="ignore"):  # of foreign code: escapes that are none
            trees = {file: ast.parse(text) for file, text in sources.items()}
        led = any(name in LED for tree in trees.values() for name in _variables(tree))
        for file, tree in trees.items():
            name = file.relative_to(root).as_posix()
            for way, reason in _calls(tree, folder_is_led=led):
                ways.add(way)
                if reason is not None:
                    unheard.append(f"{name}: {reason}")
        if ways and folder.name not in NO_JUDGES:
            found.append(Found(folder.name, frozenset(ways), tuple(dict.fromkeys(unheard))))
    return found


def _calls(tree: ast.AST, *, folder_is_led: bool) -> Iterator[tuple[str, str | None]]:
    """The calls of a file as (way, why it is not heard of).

    A file that reads no address and holds none is given it by another of its folder.
    """
    led = any(name in LED for name in _variables(tree)) or (folder_is_led and not _fixed(tree))
    missing = find_missing(tree)
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        last = name.rpartition(".")[2]
        way, reason = None, None
        if (last == "get_server" and call.keywords) or last == "OpenAIVerifier":
            way = "lmms_eval.llm_judge"
        elif last in CLIENTS:
            way = "openai"
            given = {word.arg: word.value for word in call.keywords}
            address = given.get("base_url") or given.get("azure_endpoint")
            fixed = _assigned(tree, address)
            if fixed is not None or (address is not None and not led):
                reason = f"its address is fixed: {fixed or _fixed(tree) or 'in its YAML file'}"
        elif name == "requests.post":
            way = "requests"
            if not led:
                reason = f"its address is fixed: {_fixed(tree) or 'in its YAML file'}"
        elif name in FOREIGN or last in FOREIGN:
            way, reason = "another API", f"it asks {FOREIGN.get(name) or FOREIGN[last]}"
        if way is not None:
            yield way, f"lmms-eval lacks {missing}, which it imports" if missing else reason


def find_missing(tree: ast.AST) -> str | None:
    """A module of lmms-eval that a file imports and that the installed one does not have."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == MISSING_MODULE:
            return MISSING_MODULE if find_spec(MISSING_MODULE) is None else None
    return None


def _variables(tree: ast.AST) -> Iterator[str]:
    """The environment variables that a file reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            first, name = node.args[0], ast.unparse(node.func)
            if (
                name.endswith(("getenv", "environ.get"))
                and isinstance(first, ast.Constant)
                and isinstance(first.value, str)
            ):
                yield first.value


def _assigned(tree: ast.AST, address: ast.expr | None) -> str | None:
    """The literal that the name of an address was last assigned in its file, if it was one."""
    if not isinstance(address, ast.Name):
        return None
    values = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == address.id for target in node.targets)
    ]
    literals = [v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]
    return literals[0] if literals and len(literals) == len(values) else None


def _fixed(tree: ast.AST) -> str | None:
    """An address that stands in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
            if text.startswith(("http://", "https://")) and " " not in text:
                return text.partition("?")[0]
    return None


def main() -> None:
    """Print the survey."""
    found = survey(tasks_folder())
    for entry in found:
        heard = "heard" if not entry.unheard else "; ".join(entry.unheard)
        sys.stdout.write(f"{entry.folder:36} {', '.join(sorted(entry.ways)):32} {heard}\n")
    heard_of = sum(not entry.unheard for entry in found)
    sys.stdout.write(f"{len(found)} folders call a judge; {heard_of} are heard of\n")


if __name__ == "__main__":
    main()
