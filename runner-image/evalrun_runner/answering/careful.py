"""Asking with a memory of what killed a worker before."""

from __future__ import annotations

from evalrun_runner.answering.asking import Asker
from evalrun_runner.journal.request_list import Chunk, Request
from evalrun_runner.workers import poison

SAID = {
    "Crashed": "the process that asked it died twice",
    "OutOfMemory": "the process that asked it was killed twice for memory",
    "Stalled": "it was not answered within stallSeconds, twice",
}


class CarefulAsker(Asker):
    """Asks one by one where a worker has died, and gives up what has killed it alone."""

    def ask(
        self,
        request_type: str,
        chunk: Chunk,
        missing: list[Request],
        batch_size: int,
        *,
        alone: bool = False,
    ) -> None:
        """See `Asker`."""
        deaths = self._setting.hand.deaths
        verdict = None
        if deaths:
            marks = [poison.mark(request.key, request.fingerprint) for request in missing]
            members = [poison.mark(request.key, request.fingerprint) for request in chunk.requests]
            verdict = poison.judge(marks, members, deaths)
        if verdict is None or verdict.is_usual:
            super().ask(request_type, chunk, missing, batch_size, alone=alone)
            return
        for position, error in verdict.condemned.items():
            said = SAID.get(error, error)
            self.give_up(request_type, [missing[position]], error, said)
        if verdict.order:
            asked = [missing[position] for position in verdict.order]
            super().ask(request_type, chunk, asked, batch_size, alone=True)
