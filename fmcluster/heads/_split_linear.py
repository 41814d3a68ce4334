"""Linear layers whose matrix products two threads share, with the same bits as on one thread.

A product is cut along its outputs, never along a sum, and the cut does not depend on how many
threads there are; so a seed gives the same weights for any thread count. A second thread of the
matrix library would promise neither, and waits by spinning, which on a busy machine costs more
than it gains.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Jobs = list[Callable[[], Any]]
# Products a trial of one thread or two lasts (ten steps of a deep autoencoder), and spans between.
SPAN = 160
SPANS_KEPT = 10


class _SplitProduct(torch.autograd.Function):
    """``x W^T + b`` and its gradients as pairs of products of equal cost."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, run: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.run = run
        out = x.new_empty(len(x), len(weight))
        parts = zip(bias.chunk(2), weight.chunk(2), out.chunk(2, dim=1), strict=True)
        run([partial(torch.addmm, b, x, w.T, out=o) for b, w, o in parts])
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        grad = grads[0].contiguous()
        of_x, of_weight = None, torch.empty_like(weight)
        if ctx.needs_input_grad[0]:
            of_x = torch.empty_like(x)
            jobs = [
                partial(torch.mm, grad.T, x, out=of_weight),
                partial(torch.mm, grad, weight, out=of_x),
            ]
        else:
            parts = zip(grad.chunk(2, dim=1), of_weight.chunk(2), strict=True)
            jobs = [partial(torch.mm, g.T, x, out=o) for g, o in parts]
        ctx.run(jobs)
        return of_x, of_weight, grad.sum(dim=0), None


class _Runner:
    """Runs pairs of products on one thread or on two, whichever was faster a moment ago.

    Where others keep the cores busy, each wait for a second thread costs more than it saves, and
    that changes while a network trains: so both are tried now and then.
    """

    def __init__(self, pool: ThreadPoolExecutor | None) -> None:
        self.pool = pool
        self.spent = [0.0, 0.0]
        self.n_calls = 0

    def __call__(self, jobs: Jobs) -> None:
        span = self.n_calls // SPAN % (2 + SPANS_KEPT)
        trial = span < 2
        if trial and self.n_calls % SPAN == 0:
            self.spent[span] = 0.0
        self.n_calls += 1
        two = self.pool is not None and (span == 1 if trial else self.spent[1] < self.spent[0])
        start = time.perf_counter()
        other = [self.pool.submit(job) for job in jobs[1:]] if two and self.pool else []
        for job in jobs[: 1 if two else len(jobs)]:
            job()
        for waited in other:
            waited.result()
        if trial:
            self.spent[span] += time.perf_counter() - start


class SplitLinear(nn.Linear):
    """`nn.Linear` that, inside `shared_by_threads`, trains by products cut in two."""

    run: Callable[[Jobs], None] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x W^T + b`` (B, n_out)."""
        if self.run is None or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return F.linear(x, self.weight, self.bias)
        return _SplitProduct.apply(x, self.weight, self.bias, self.run)


@contextlib.contextmanager
def shared_by_threads(network: nn.Module, n_threads: int) -> Iterator[None]:
    """Let a network's `SplitLinear` layers use two threads on the CPU, or one if `n_threads` is.

    Parameters
    ----------
    network : nn.Module
        Its layers get the pool for the time of the block.
    n_threads : int
        Threads that may be used.
    """
    layers = [m for m in network.modules() if isinstance(m, SplitLinear)]
    # A thread has its own settings: one thread inside a product, and no gradients to record.
    with ThreadPoolExecutor(1, "product", initializer=_worker) as pool:
        runner = _Runner(pool if n_threads > 1 else None)
        for layer in layers:
            layer.run = runner
        try:
            yield
        finally:
            for layer in layers:
                layer.run = None


def _worker() -> None:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
