"""lmms-eval backends that misbehave, for the tests of what the runner makes of them."""

from __future__ import annotations

from typing import Any

from lmms_eval.api.model import lmms


class Misbehaving(lmms):
    """Answers as `behaviour` says."""

    is_simple = True
    cured = False
    """Set by a test: from now on it answers."""

    def __init__(self, pretrained: str, behaviour: str = "empty", **kwargs: Any) -> None:
        super().__init__()
        self.behaviour = behaviour

    def generate_until(self, requests: list[Any]) -> list[Any]:
        match "well" if self.cured else self.behaviour:
            case "empty":
                return [""] * len(requests)
            case "too-few":
                return ["red"] * (len(requests) - 1)
            case "none":
                return None  # type: ignore[return-value]
            case "raises":
                raise ValueError("the backend is unwell")
            case "out-of-memory":
                raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
            case "object":
                return [object()] * len(requests)
        return ["red"] * len(requests)

    def loglikelihood(self, requests: list[Any]) -> list[Any]:
        raise NotImplementedError

    def generate_until_multi_round(self, requests: list[Any]) -> list[Any]:
        raise NotImplementedError
