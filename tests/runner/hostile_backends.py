"""lmms-eval backends that misbehave, for the tests of what the runner makes of them.

Each behaviour is one that lmms-eval's own backends, or the libraries beneath them, have.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from typing import Any, ClassVar

from lmms_eval.api.instance import GenerationResult
from lmms_eval.api.model import lmms
from loguru import logger as eval_logger

OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total of 79.11 GiB"
SENTINEL = "[LMMS_EVAL_REQUEST_FAILED after 5 retries] upstream is overloaded"
FITS = 2
"""The largest batch that finds room, for those that run out of memory."""
NOISE_BYTES = 100 * 2**20


class PanicException(BaseException):  # as PyO3 names it
    """What a library in Rust raises when it panics."""


class Misbehaving(lmms):
    """Answers as `behaviour` says."""

    is_simple = True
    cured = False
    """Set by a test: from now on it answers."""
    calls: ClassVar[list[list[int]]] = []
    """Documents of each call, in order."""

    def __init__(
        self, pretrained: str, behaviour: str = "empty", batch_size: int = 1, **kwargs: Any
    ) -> None:
        super().__init__()
        self.behaviour = behaviour
        self.batch_size_per_gpu = int(batch_size)
        self.seen: set[int] = set()

    def generate_until(self, requests: list[Any]) -> list[Any]:
        documents = [int(request.args[3]) for request in requests]
        Misbehaving.calls.append(documents)
        size = min(len(requests), self.batch_size_per_gpu)
        match "well" if self.cured else self.behaviour:
            case "empty":
                return [""] * len(requests)
            case "too-few":
                return ["red"] * (len(requests) - 1)
            case "too-many":
                return ["red"] * (len(requests) + 1)
            case "none":
                return None  # type: ignore[return-value]
            case "nones":
                return [None] * len(requests)
            case "raises":
                raise ValueError("the backend is unwell")
            case "exits":
                sys.exit(0)
            case "panics":  # tokenizers and other libraries in Rust
                raise PanicException("called `Option::unwrap()` on a `None` value")
            case "swallows-a-stop":
                return [self._cut_short()] * len(requests)
            case "object":
                return [object()] * len(requests)
            case "sentinels":
                return [GenerationResult(SENTINEL)] * len(requests)
            case "out-of-memory":
                raise RuntimeError(OUT_OF_MEMORY)
            case "out-of-memory-above-2":
                if size > FITS:
                    raise RuntimeError(OUT_OF_MEMORY)
            case "swallows-out-of-memory":
                return self._swallow(requests, RuntimeError(OUT_OF_MEMORY))
            case "swallows-out-of-memory-above-2":
                if size > FITS:
                    return self._swallow(requests, RuntimeError(OUT_OF_MEMORY))
            case "swallows-errors":
                return self._swallow(requests, KeyError("pixel_values"))
            case "logs-and-answers":  # qwen2_vl, gemma3: a picture that cannot be read is left out
                for _ in requests:
                    eval_logger.error("Failed to process PIL image: broken data stream")
            case "loses-its-accelerator":
                raise RuntimeError("CUDA error: device-side assert triggered")
            case "one-is-poisoned":
                if 7 in documents:
                    raise ValueError("document 7 is broken")
            case "one-is-swallowed":
                answers: list[Any] = ["red"] * len(requests)
                if 7 in documents:
                    logging.getLogger("transformers.generation").error("document 7 is broken")
                    answers[documents.index(7)] = ""
                return answers
            case "empty-at-first":
                fresh = set(documents) - self.seen
                self.seen |= fresh
                return ["" if each in fresh and each % 5 == 0 else "red" for each in documents]
            case "is-stopped-while-it-fails":
                os.kill(os.getpid(), signal.SIGTERM)
                return ["red"] * (len(requests) - 1) + [""]
            case "writes-100-mb-to-stderr":
                line = "x" * 1023 + "\n"
                for _ in range(NOISE_BYTES // len(line)):
                    sys.stderr.write(line)
                return [""] * len(requests)
        return ["red"] * len(requests)

    def _cut_short(self) -> str:
        """A text of which a second request to stop takes the end."""
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1.1)  # sooner it would be the same request
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except BaseException:
            return "re"
        return "red"

    def _swallow(self, requests: list[Any], error: Exception) -> list[Any]:
        """As lmms-eval's backends do it."""
        answers = []
        for _ in requests:
            try:
                raise error
            except Exception as e:
                eval_logger.error(f"Error {e} in generating")
                answers.append("")
        return answers

    def loglikelihood(self, requests: list[Any]) -> list[Any]:
        raise NotImplementedError

    def generate_until_multi_round(self, requests: list[Any]) -> list[Any]:
        raise NotImplementedError
