"""lmms-eval backends whose answers follow from the question alone, for every request type.

They stand in where the small real model can't answer: it draws no pictures and calls no tools.
With `together` an answer also depends on what else is in its batch, as padding does to real ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms
from PIL import Image

WORDS = (
    "A",
    "B",
    "C",
    "D",
    "yes",
    "no",
    "Yes",
    "No",
    "3",
    "12",
    "The answer is B.",
    "I see C",
    "?",
)
MOVES = (
    '<tool_call>{"name": "set_price", "arguments": {"price": 3.5}}</tool_call>',
    '<tool_call>{"name": "restock", "arguments": {"units": 5}}</tool_call>',
    '<tool_call>{"name": "simulate_days", "arguments": {"days": 3}}</tool_call>',
    '<tool_call>{"name": "simulate_days", "arguments": {"days": 2}}</tool_call>',
    '<tool_call>{"name": "dance", "arguments": {}}</tool_call>',
    "let me think",
    '<submit>{"final": "done"}</submit>',
)
SCENES = ("Ocean", "Forest", "City", "Museum")


def number(*parts: Any) -> int:
    """A number that follows from its arguments."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big")


class Following(lmms):  # type: ignore[misc]  # it ships no types
    """Simple form.

    pretrained: not read. drawings: folder for images. together: answers depend on their batch.
    pairs: whether a log-likelihood is a bare pair, as lmms-eval documents it, or one that its
    evaluator leaves alone. forgets: pop `until`, as most real backends do.
    """

    is_simple = True
    made: ClassVar[int] = 0
    """How many were constructed in this process."""

    def __init__(
        self,
        pretrained: str,
        drawings: str = "",
        together: bool = False,
        pairs: bool = True,
        forgets: bool = False,
        batch_size: int = 1,
        device: str | None = None,
    ) -> None:
        super().__init__()
        del pretrained, device
        type(self).made += 1
        self.folder = Path(drawings)
        self.together = together
        self.pairs = pairs
        self.forgets = forgets
        self.size = int(batch_size)

    def _each(self, requests: Sequence[Any], answer: Callable[[Any, Any], Any]) -> list[Any]:
        """Answers to requests, batch by batch; `answer` also gets what is known of the batch."""
        found = []
        for start in range(0, len(requests), self.size):
            batch = requests[start : start + self.size]
            company = [self._asked(request)[0] for request in batch] if self.together else None
            found += [answer(request, company) for request in batch]
        return found

    def _asked(self, request: Any) -> tuple[str, dict[str, Any]]:
        """The prompt and the generation arguments."""
        return request.args[0], request.args[1]

    def generate_until(self, requests: list[Any]) -> list[Any]:
        """See `lmms`."""

        def answer(request: Any, company: Any) -> Any:
            prompt, arguments = self._asked(request)
            drawn = number(prompt, sorted(arguments.items(), key=str), company)
            if self.forgets:
                arguments.pop("until", None)
            choices = MOVES if "<tool_call>" in prompt else WORDS
            text = choices[drawn % len(choices)]
            return GenerationResult(text, TokenCounts(len(prompt), len(text), None))

        return self._each(requests, answer)

    def loglikelihood(self, requests: list[Any]) -> list[Any]:
        """See `lmms`."""

        def answer(request: Any, company: Any) -> Any:
            drawn = number(request.args[0], request.args[1], company)
            pair = (-(drawn % 10007) / 977, drawn % 3 == 0)
            return pair if self.pairs else GenerationResult(pair)

        return self._each(requests, answer)

    def generate_until_multi_round(self, requests: list[Any]) -> list[Any]:
        """See `lmms`. The rounds as llava_onevision has them."""

        def answer(request: Any, company: Any) -> Any:
            context, _, _, doc_to_text, doc_id, task, split = request.args
            doc = self.task_dict[task][split][doc_id]
            said: list[str] = []
            info = None
            while True:
                said.append(WORDS[number(context, len(said), company) % len(WORDS)])
                _, context, ended, _, info = doc_to_text(
                    doc, previous_output=said, round_idx=len(said), previous_round_info=info
                )
                if ended:
                    return said

        return self._each(requests, answer)

    def generate_visual_cot(self, requests: list[Any]) -> list[Any]:
        """See `lmms`. Draws a picture, looks at it, and answers as bagel_unig2u does: in JSON."""

        def answer(request: Any, company: Any) -> Any:
            prompt, _, doc_to_visual, doc_id, task, split = request.args
            (seen,) = doc_to_visual(self.task_dict[task][split][doc_id])
            drawn = number(prompt, doc_id, company)
            path = self.folder / f"{task}-{doc_id}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            colour = (drawn % 256, drawn // 256 % 256, 7)
            Image.blend(seen.resize((16, 16)), Image.new("RGB", (16, 16), colour), 0.5).save(path)
            text = f"I drew it: {SCENES[drawn % len(SCENES)]}"
            return json.dumps({"text": text, "images": [str(path)]}, ensure_ascii=False)

        return self._each(requests, answer)


class FollowingChat(Following):
    """Chat form: the prompt is in messages."""

    is_simple = False

    def _asked(self, request: Any) -> tuple[str, dict[str, Any]]:
        _, doc_to_messages, arguments, doc_id, task, split = request.args
        messages = doc_to_messages(self.task_dict[task][split][doc_id])
        parts = [part for message in messages for part in message["content"]]
        texts = [part["text"] if part["type"] == "text" else part["type"] for part in parts]
        return "\n".join(texts), arguments


def register() -> None:
    """Make them known to lmms-eval in this process."""
    from lmms_eval.models import MODEL_REGISTRY_V2
    from lmms_eval.models.registry_v2 import ModelManifest

    for manifest in (
        ModelManifest("following", simple_class_path="kind_backends.Following"),
        ModelManifest("following_chat", chat_class_path="kind_backends.FollowingChat"),
    ):
        MODEL_REGISTRY_V2.register_manifest(manifest, overwrite=True)
