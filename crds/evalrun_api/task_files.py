"""What the files of a custom benchmark say, read as lmms-eval reads them but running nothing.

lmms-eval indexes every .yaml file and whatever they include, sees tags that PyYAML has decoded
(`!funct%69on` is `!function`), and renders strings as Jinja templates. So files are judged by their
parsed nodes, never by their text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from evalrun_api.yaml_size import check_size, children

PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}"
    for kind in (
        *("null", "bool", "int", "float", "str", "seq", "map", "merge", "value"),
        *("binary", "timestamp", "omap", "pairs", "set"),
    )
)
"""All that is data. `tag:yaml.org,2002:python/…` is not: lmms-eval's loader looks names up."""
NAMING = ("task", "tag", "group")
"""Keys of a task file that say what it defines."""
CODE_IN_TEMPLATE = re.compile(r"\{%|\{\{(?!-?\s*[A-Za-z_][A-Za-z0-9_]*\s*-?\}\})")
"""Any Jinja but `{{ name }}`: attributes and calls reach all of Python from a template."""


MAX_DEPTH = 100
MAX_YAML_CHARACTERS = 256 * 1024
"""Of all files of a benchmark: a task has a few hundred, and to parse so many takes seconds."""


@dataclass(frozen=True)
class TaskFiles:
    """What the files say.

    has_code: running the tasks runs Python that the benchmark brings or chooses.
    unreadable: why, for each file that is not YAML.
    strange_includes: (file, what it includes) where that is none of the files.
    defined: tasks, groups and tags, with the file that defines each.
    referred: names that groups take in, with the file of the group.
    """

    has_code: bool = False
    unreadable: dict[str, str] = field(default_factory=dict)
    strange_includes: list[tuple[str, str]] = field(default_factory=list)
    defined: dict[str, str] = field(default_factory=dict)
    referred: dict[str, str] = field(default_factory=dict)

    @property
    def foreign(self) -> dict[str, str]:
        """What groups take in that the files do not define, with the file of the group."""
        return {name: file for name, file in self.referred.items() if name not in self.defined}


class _Loader(yaml.SafeLoader):
    """Safe loading in which a value with an unknown tag is None.

    Deep nesting is refused before it is read on: its time grows with the square of the depth.
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            problem = f"it is nested deeper than {MAX_DEPTH} levels"
            raise yaml.MarkedYAMLError(problem=problem)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def _nothing(_loader: yaml.SafeLoader, _node: yaml.Node) -> None:
    return None


_Loader.add_constructor(None, _nothing)


def inspect(files: Mapping[str, str]) -> TaskFiles:
    """Read a benchmark's files by name, their placeholders filled in."""
    nodes: dict[str, yaml.Node] = {}
    configs: dict[str, dict[Any, Any]] = {}
    unreadable: dict[str, str] = {}
    waiting = [name for name in files if name.endswith(".yaml")]
    strange: list[tuple[str, str]] = []
    parsed = 0
    while waiting:
        name = waiting.pop()
        if name in nodes or name in unreadable:
            continue
        parsed += len(files[name])
        try:
            if parsed > MAX_YAML_CHARACTERS:
                raise ValueError(
                    f"the benchmark's YAML has more than {MAX_YAML_CHARACTERS:,} characters in all"
                )
            nodes[name], configs[name] = _parsed(files[name])
        except Exception as error:  # noqa: BLE001 - PyYAML's constructors raise anything
            unreadable[name] = str(getattr(error, "problem", None) or error)
            continue
        for included in _includes(nodes[name]):
            if included in files:
                waiting.append(included)
            else:
                strange.append((name, included))
    defined, referred = _names(configs)
    return TaskFiles(
        has_code=any(name.endswith(".py") for name in files)
        or bool(unreadable)
        or any(_is_code(node) for root in nodes.values() for node in _all(root)),
        unreadable=unreadable,
        strange_includes=strange,
        defined=defined,
        referred=referred,
    )


def _parsed(text: str) -> tuple[yaml.Node, dict[Any, Any]]:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise ValueError("it holds no mapping")
        check_size(node)
        config = loader.construct_document(node)
    finally:
        loader.dispose()
    if not isinstance(config, dict):
        raise ValueError(f"a tag makes it something else than a mapping: {node.tag}")
    return node, config


def _all(root: yaml.Node) -> Iterator[yaml.Node]:
    """Every node once."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            waiting.extend(children(node))


def _is_code(node: yaml.Node) -> bool:
    if node.tag not in PLAIN_TAGS:
        return True
    if isinstance(node, yaml.ScalarNode):
        return CODE_IN_TEMPLATE.search(node.value) is not None
    return any(_downloads_code(key, value) for key, value in _pairs(node))


def _downloads_code(key: str, value: yaml.Node) -> bool:
    """Whether lmms-eval gives it to `evaluate.load`, which runs scripts of a folder or the hub."""
    if key == "metric":
        return isinstance(value, yaml.ScalarNode) and bool(re.search(r"[/\\]", value.value))
    return key == "hf_evaluate"


def _includes(root: yaml.Node) -> Iterator[str]:
    """What stands under `include`, at any depth."""
    for node in _all(root):
        for key, value in _pairs(node):
            if key == "include":
                parts = children(value) if isinstance(value, yaml.SequenceNode) else [value]
                yield from (str(part.value) for part in parts)


def _pairs(node: yaml.Node) -> Iterator[tuple[str, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield key.value, value


def _names(configs: Mapping[str, dict[Any, Any]]) -> tuple[dict[str, str], dict[str, str]]:
    """Names that the .yaml files define, and those that their groups take in."""
    defined: dict[str, str] = {}
    referred: dict[str, str] = {}
    known: dict[str, dict[str, Any]] = {}
    for file in sorted(configs):
        if not file.endswith(".yaml"):
            continue  # lmms-eval reads it as part of another file only
        config = _with_included(file, configs, known)
        task = config.get("task")
        if isinstance(task, str):
            names = [task, *_texts(config.get("tag")), *_texts(config.get("group"))]
        elif isinstance(task, list):
            names = _texts(config.get("group"))
            for name in _members(task):
                referred.setdefault(name, file)
        else:
            continue
        for name in names:
            defined.setdefault(name, file)
    return defined, referred


def _with_included(
    file: str, configs: Mapping[str, dict[Any, Any]], known: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """What names a file's tasks: its own keys over those of the files that it includes.

    Of these the first wins. known: by file, what was found before: files that include each other
    have more ways through them than can be walked. In a circle, which lmms-eval cannot load, a file
    that is being looked at counts as empty.
    """
    if file in known or file not in configs:
        return known.get(file, {})
    known[file] = {}
    config = configs[file]
    merged: dict[str, Any] = {}
    for name in reversed(_texts(config.get("include"))):
        merged.update(_with_included(name, configs, known))
    known[file] = {**merged, **{key: config[key] for key in NAMING if key in config}}
    return known[file]


def _members(entries: Iterable[Any]) -> Iterator[str]:
    """Names in a group's list: of tasks, of tasks with settings, of groups within the group."""
    for entry in entries:
        task = entry.get("task") if isinstance(entry, dict) else entry
        if isinstance(task, str):
            yield task
        elif isinstance(task, list):
            yield from _members(task)


def _texts(value: Any) -> list[str]:
    entries = value if isinstance(value, list) else [value]
    return [entry for entry in entries if isinstance(entry, str)]
