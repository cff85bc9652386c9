"""The patch says no more than what changed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalrun_operator.patching import merge_patch

pytestmark = pytest.mark.decisions

VALUES = st.recursive(
    st.booleans() | st.integers(0, 3) | st.sampled_from(["a", "b"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3)
    ),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.sampled_from("xyz"), VALUES, max_size=3)


def apply(document: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = apply(result.get(key), value)
    return result


@given(DOCUMENTS, DOCUMENTS)
def test_the_patch_makes_the_new_document_of_the_old(old: Any, new: Any) -> None:
    assert apply(old, merge_patch(old, new)) == new


@given(DOCUMENTS)
def test_nothing_is_sent_when_nothing_changed(document: Any) -> None:
    assert merge_patch(document, document) == {}


def test_only_the_changed_field_is_named() -> None:
    old = {"phase": "Answering", "progress": {"done": 1, "total": 9}, "step": "Answer"}
    new = {"phase": "Answering", "progress": {"done": 2, "total": 9}}
    assert merge_patch(old, new) == {"progress": {"done": 2}, "step": None}
