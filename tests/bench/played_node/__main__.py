"""The played node as a program. On SIGTERM it ends, and its last line says in JSON what it did."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.api_client import ApiClient
from bench.played_node import node
from bench.played_node.fates import ENDS, Odds
from bench.played_node.kubelet import Kubelet
from bench.played_node.process import READY
from bench.played_node.progress_server import serve


async def play(options: argparse.Namespace) -> dict[str, Any]:
    """Until SIGTERM or SIGINT."""
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    odds = Odds(options.seed, dict(options.seconds), options.jitter, dict(options.share))
    async with ApiClient(options.kubeconfig, options.connections) as api:
        kubelet = Kubelet(api, odds, options.requests)
        server = await serve(kubelet.works) if options.serve else None
        await node.register(api)
        parts = [asyncio.create_task(part) for part in (node.live(api), kubelet.run())]
        wait = asyncio.create_task(asked.wait())
        print(READY, flush=True)
        done, _ = await asyncio.wait([wait, *parts], return_when=asyncio.FIRST_COMPLETED)
        for task in (wait, *parts):
            task.cancel()
        await asyncio.gather(wait, *parts, return_exceptions=True)
        if server is not None:
            await server.cleanup()
        if wait not in done:
            await next(iter(done))  # raises what it ended of
        figures, late = kubelet.figures, sorted(kubelet.figures.late)
        return {
            "pods": figures.seen,
            "ended": dict(figures.ended),
            "refused": dict(figures.refused),
            "requests": api.sent,
            "late_p50_s": late[len(late) // 2] if late else None,
            "late_max_s": late[-1] if late else None,
        }


def _seconds(text: str) -> tuple[str, float]:
    step, _, value = text.rpartition("=")
    return step, float(value)


def _share(text: str) -> tuple[str, float]:
    end, _, value = text.rpartition("=")
    if end not in ENDS:
        raise argparse.ArgumentTypeError(f"{end!r} is none of {', '.join(ENDS)}")
    return end, float(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, and report."""
    parser = argparse.ArgumentParser(prog="bench.played_node", description=__doc__)
    add = parser.add_argument
    add("--kubeconfig", type=Path, required=True, help="an administrator's, in JSON")
    add("--seconds", type=_seconds, nargs="+", default=[("", 2.0)], metavar="[STEP=]SECONDS")
    add("--jitter", type=float, default=0.5, help="part by which a pod works more or less")
    add("--share", type=_share, nargs="*", default=[], metavar="END=SHARE")
    add("--seed", type=int, default=0)
    add("--requests", type=int, default=120, help="of each run, over all shards")
    add("--connections", type=int, default=16, help="to the API server")
    add("--serve", action="store_true", help="serve /progress")
    print(json.dumps(asyncio.run(play(parser.parse_args(arguments)))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
