"""Code in a process of its own, forked from one that has imported what is slow: seven seconds."""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

OURS = {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "OMP_NUM_THREADS": "1"}
# Imports alone: threads, of pools or of gradients, do not come along when it forks.
NURSERY = """
import json, os, sys, traceback
import accelerate, datasets, faiss, pyarrow.parquet, scipy.stats, sklearn.cluster, torch
import fmcluster as fmc
from fmcluster.heads import list_heads, make_head
from fmcluster.embedding import embed
from fmcluster.result import result
for name in list_heads():
    make_head(name)
torch.optim.Adam([torch.ones(1)])

for line in sys.stdin:
    asked = json.loads(line)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            for number, file in enumerate((os.devnull, asked["out"], asked["err"])):
                os.dup2(os.open(file, os.O_RDWR), number)
            os.environ.clear()
            os.environ.update(asked["environ"])
            sys.argv[1:] = asked["words"]
            exec(compile(asked["code"], "<code>", "exec"), vars(sys.modules["__main__"]))
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@functools.cache
def _nursery() -> subprocess.Popen[str]:
    started = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", NURSERY],
        env={**os.environ, **OURS},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(started.kill)
    return started


def run_forked(
    code: str, *words: object, environ: dict[str, str] | None = None, timeout: float = 250
) -> str:
    """Run `code` with ``sys.argv[1:]`` as `words`, one thread of each library; return what it said.

    Its last words are the assertion's, where it fails.
    """
    if not hasattr(os, "fork"):
        pytest.skip("forks a process that has torch")
    nursery = _nursery()
    assert nursery.stdin is not None and nursery.stdout is not None
    with tempfile.NamedTemporaryFile("r+") as out, tempfile.NamedTemporaryFile("r+") as err:
        asked = {"code": code, "words": [*map(str, words)], "out": out.name, "err": err.name}
        # Of now: the nursery's own is that of the test that started it.
        asked["environ"] = {**os.environ, **OURS, **(environ or {})}
        print(json.dumps(asked), file=nursery.stdin, flush=True)
        pid = int(nursery.stdout.readline())
        late = threading.Timer(timeout, os.kill, (pid, signal.SIGKILL))
        late.start()
        ended = int(nursery.stdout.readline())
        late.cancel()
        assert ended == 0, f"ended with {ended}: {err.read()[-2000:]}"
        return out.read()
