"""Two processes of one group, forked from one that has imported everything.

`test_two_processes.py` starts them as people do, with ``accelerate launch``.
"""

from __future__ import annotations

import socket

from helpers_fork import run_forked

RANKS = """
import os, sys, traceback
import accelerate, torch
from fmcluster.utils import distributed

world, port = map(int, os.environ["TWO"].split())
pids = []
for rank in range(world):
    pids.append(os.fork())
    if not pids[-1]:
        os.environ |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        code = 1
        try:
            work(*sys.argv[1:])
            distributed.barrier()
            code = 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
failed = 0
for _ in pids:
    failed = failed or os.wait()[1]
    if failed:  # the others would wait for it
        for pid in pids:
            os.kill(pid, 9)
sys.exit(failed != 0)
"""


def run_ranks(script: str, *words: object, world: int = 2, timeout: float = 250) -> None:
    """Call ``work(*words)`` of `script` on each of `world` processes, on CPU, one thread each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = {"ACCELERATE_USE_CPU": "true", "TWO": f"{world} {port}"}
    run_forked(script + RANKS, *words, environ=environ, timeout=timeout)


def run_alone(script: str, *words: object) -> None:
    """Call ``work(*words)`` of `script` here: what one process does."""
    scope: dict[str, object] = {"__name__": "alone"}
    exec(compile(script, "work", "exec"), scope)
    scope["work"](*map(str, words))  # type: ignore[operator]
