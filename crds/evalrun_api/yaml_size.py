"""How large a YAML document is once its aliases are written out, found without writing them out."""

from __future__ import annotations

import yaml

MAX_NODES = 100_000
"""A manifest has a few hundred; nine lines of aliases of aliases make thousands of millions."""


class TooLarge(yaml.MarkedYAMLError):
    """The document is larger than `MAX_NODES`, or holds itself."""


def check_size(root: yaml.Node) -> None:
    """Raise `TooLarge` if the document has more than `MAX_NODES` nodes, or contains itself."""
    _size(root, {})


def _size(node: yaml.Node, known: dict[int, int | None]) -> int:
    if id(node) in known:
        size = known[id(node)]
        if size is None:
            raise TooLarge(
                problem="an alias stands within its own anchor", problem_mark=node.start_mark
            )
        return size
    known[id(node)] = None
    size = 1 + sum(_size(child, known) for child in children(node))
    if size > MAX_NODES:
        problem = f"with its aliases written out it has more than {MAX_NODES:,} values"
        raise TooLarge(problem=problem, problem_mark=node.start_mark)
    known[id(node)] = size
    return size


def children(node: yaml.Node) -> list[yaml.Node]:
    """The nodes directly beneath a node: entries of a list, keys and values of a mapping."""
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    return []
