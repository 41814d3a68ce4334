"""A training step of linear layers and ReLUs in halves, with the same bits on one thread or two.

Outputs, and gradients at the layers' outputs, are computed for each half of the batch; gradients of
the weights for each half of a layer's units, over the whole batch. The cuts are the same whether
the halves take turns or have a thread each, so a seed gives the same weights for any thread count.
A second thread inside the matrix library would not promise that, and waits for every single product
by spinning; here threads meet thrice a step and share nothing between.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

Jobs = Sequence[Callable[[], Any]]
# Calls that a trial of one thread or two lasts (three are a step): shorter ones measure noise; and
# such spans between trials, so that the slower way costs one call in sixty.
SPAN = 6
SPANS_KEPT = 60


class Runner:
    """Runs pairs of jobs on one thread or on two, whichever was faster a moment ago.

    Where others keep the cores busy, each wait for a second thread costs more than it saves, and
    that changes while a network trains: so both are tried now and then.
    """

    def __init__(self, pool: ThreadPoolExecutor | None) -> None:
        self.pool = pool
        self.spent = [0.0, 0.0]
        self.n_calls = 0

    def __call__(self, jobs: Jobs) -> None:
        """Run the jobs, to the end of all."""
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


class _Chain(torch.autograd.Function):
    """Linear layers, those in `rectified` with a ReLU after; gives the outputs of those in `ends`.

    `parameters` are the weights (out, in), then the biases (out,).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, run: Runner, rectified: set[int], ends: list[int], *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        n_layers = len(parameters) // 2
        outs = [x.new_empty(len(x), len(bias)) for bias in parameters[n_layers:]]

        @torch.no_grad()
        def forwards(rows: slice) -> None:
            values = [x[rows], *(out[rows] for out in outs)]
            for layer, (before, after) in enumerate(pairwise(values)):
                weight, bias = parameters[layer], parameters[n_layers + layer]
                torch.addmm(bias, before, weight.T, out=after)
                if layer in rectified:
                    after.clamp_min_(0)

        run([partial(forwards, rows) for rows in _halves(len(x))])
        ctx.save_for_backward(x, *outs, *parameters[:n_layers])
        ctx.run, ctx.rectified, ctx.ends = run, rectified, ends
        return tuple(outs[layer] for layer in ends)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        n_layers = len(ctx.saved_tensors) // 2
        x, outs = ctx.saved_tensors[0], ctx.saved_tensors[1 : n_layers + 1]
        weights = ctx.saved_tensors[n_layers + 1 :]
        given = dict(zip(ctx.ends, grads, strict=True))
        # Of the loss with respect to each layer's values before its ReLU.
        slopes = [torch.empty_like(out) for out in outs]

        @torch.no_grad()
        def backwards(rows: slice) -> None:
            for layer in reversed(range(n_layers)):
                slope = slopes[layer][rows]
                if layer + 1 < n_layers:
                    torch.mm(slopes[layer + 1][rows], weights[layer + 1], out=slope)
                    if layer in given:
                        slope += given[layer][rows]
                else:
                    slope.copy_(given[layer][rows])
                if layer in ctx.rectified:
                    slope *= outs[layer][rows].sign()  # several times as fast as by `> 0`

        found = [torch.empty_like(weight) for weight in weights]
        found += [slope.new_empty(slope.shape[1]) for slope in slopes]

        @torch.no_grad()
        def of_weights(half: int) -> None:
            for layer, (values, slope) in enumerate(zip([x, *outs[:-1]], slopes, strict=True)):
                units = _halves(slope.shape[1])[half]
                torch.mm(slope[:, units].T, values, out=found[layer][units])
                torch.sum(slope[:, units], dim=0, out=found[n_layers + layer][units])

        ctx.run([partial(backwards, rows) for rows in _halves(len(x))])
        ctx.run([partial(of_weights, half) for half in (0, 1)])
        return (None, None, None, None, *found)


def _halves(n: int) -> tuple[slice, slice]:
    return slice(0, n // 2), slice(n // 2, n)


def by_halves(parts: Sequence[nn.Sequential], x: Tensor, run: Runner | None) -> tuple[Tensor, ...]:
    """Return what each of `parts` gives, the first of `x`, the next of the one before.

    Parameters
    ----------
    parts : sequence of nn.Sequential
        Of linear layers with biases, each with a ReLU after it or not.
    x : (B, d)
        Rows, to which no gradient goes.
    run : Runner, optional
        None: the parts are called as they are. So they are on other devices, and under mixed
        precision, which a thread would not inherit.
    """
    on_cpu = x.device.type == "cpu" and x.dtype == torch.float32
    if run is None or len(x) < 2 or not on_cpu or torch.is_autocast_enabled("cpu"):
        found = []
        for part in parts:
            x = part(x)
            found.append(x)
        return tuple(found)
    linear: list[nn.Linear] = []
    rectified, ends = set(), []
    for part in parts:
        for layer in part:
            if isinstance(layer, nn.Linear):
                linear.append(layer)
            else:
                rectified.add(len(linear) - 1)
        ends.append(len(linear) - 1)
    parameters = [*(layer.weight for layer in linear), *(layer.bias for layer in linear)]
    outs: tuple[Tensor, ...] = _Chain.apply(x, run, rectified, ends, *parameters)
    return outs


@contextlib.contextmanager
def two_threads(n_threads: int) -> Iterator[Runner]:
    """Give a `Runner` that may use two threads, or one if `n_threads` is."""
    with ThreadPoolExecutor(1, "half", initializer=_as_in_training) as pool:
        yield Runner(pool if n_threads > 1 else None)


def _as_in_training() -> None:
    # A thread has its own settings.
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
