"""A network's training step on the two halves of a batch, with the same bits on one thread or two.

A batch is always cut in two and the halves' gradients are always added in one order, whether the
halves take turns or have a thread each; so a seed gives the same weights for any thread count. A
second thread inside the matrix library would not promise that, and waits for every single product
by spinning, which on a busy machine costs more than it gains; here threads meet thrice a step.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Jobs = Sequence[Callable[[], Any]]
# Calls that a trial of one thread or two lasts (three are a step), and such spans between trials.
SPAN = 30
SPANS_KEPT = 10


class Runner:
    """Runs pairs of jobs on one thread or on two, whichever was faster a moment ago.

    Where others keep the cores busy, each wait for a second thread costs more than it saves, and
    that changes while a network trains: so both are tried now and then.
    """

    def __init__(self, pool: ThreadPoolExecutor | None) -> None:
        self.pool = pool
        self.spent = [0.0, 0.0]
        self.n_calls = 0

    def __call__(self, jobs: Jobs) -> list[Any]:
        """Return what the jobs return."""
        span = self.n_calls // SPAN % (2 + SPANS_KEPT)
        trial = span < 2
        if trial and self.n_calls % SPAN == 0:
            self.spent[span] = 0.0
        self.n_calls += 1
        two = self.pool is not None and (span == 1 if trial else self.spent[1] < self.spent[0])
        start = time.perf_counter()
        other = [self.pool.submit(job) for job in jobs[1:]] if two and self.pool else []
        found = [job() for job in jobs[: 1 if two else len(jobs)]]
        found += [waited.result() for waited in other]
        if trial:
            self.spent[span] += time.perf_counter() - start
        return found


class _Halves(torch.autograd.Function):
    """`function` of both halves, each with a graph of its own, and their gradients' sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Any, run: Any, *parameters: Tensor) -> Any:
        def half(part: Tensor) -> Any:
            with torch.enable_grad():
                return function(part)

        ctx.run, ctx.parameters = run, parameters
        ctx.halves = run([partial(half, part) for part in x.chunk(2)])
        pairs = zip(*ctx.halves, strict=True)
        return tuple(torch.cat([one.detach() for one in pair]) for pair in pairs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        parts = zip(*(grad.chunk(2) for grad in grads), strict=True)
        first, second = ctx.run(
            [
                partial(torch.autograd.grad, outputs, ctx.parameters, part)
                for outputs, part in zip(ctx.halves, parts, strict=True)
            ]
        )
        # Every other layer each: the wide ones lie side by side.
        sums = [partial(_add, first[i::2], second[i::2]) for i in (0, 1)]
        ctx.run(sums)
        return (None, None, None, *first)


def _add(into: Sequence[Tensor], what: Sequence[Tensor]) -> None:
    torch._foreach_add_(list(into), list(what))


def by_halves(
    function: Callable[[Tensor], tuple[Tensor, ...]],
    parameters: Sequence[nn.Parameter],
    x: Tensor,
    run: Runner | None,
) -> tuple[Tensor, ...]:
    """Return ``function(x)``, computed by halves of the batch where there is a `run`.

    Parameters
    ----------
    function : callable
        From rows (B, d) to a tuple of tensors with B rows; no row may depend on another.
    parameters : sequence of Parameter
        All that `function` is to learn; every one must matter to what it returns.
    x : (B, d)
        Rows, to which no gradient goes.
    run : Runner, optional
        None: nothing is cut. Nor is it under mixed precision, which a thread would not inherit.
    """
    if run is None or len(x) < 2 or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return function(x)
    found: tuple[Tensor, ...] = _Halves.apply(x, function, run, *parameters)
    return found


@contextlib.contextmanager
def two_threads(n_threads: int) -> Iterator[Runner]:
    """Give a `Runner` that may use two threads, or one if `n_threads` is."""
    # A thread has its own settings: one thread inside a product.
    with ThreadPoolExecutor(1, "half", initializer=partial(torch.set_num_threads, 1)) as pool:
        yield Runner(pool if n_threads > 1 else None)
