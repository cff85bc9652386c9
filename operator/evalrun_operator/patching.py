"""What has to be sent so that one document becomes another."""

from __future__ import annotations

from evalrun_operator.decisions import Doc


def merge_patch(old: Doc, new: Doc) -> Doc:
    """The least JSON merge patch (RFC 7396) from `old` to `new`; empty if they are equal.

    Lists are replaced as a whole, as that format has it.
    """
    patch: Doc = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            if inner := merge_patch(before, value):
                patch[key] = inner
        elif key not in old or before != value or type(before) is not type(value):
            patch[key] = value
    return patch
