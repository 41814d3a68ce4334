"""Random numbers of networks and of steps: from a stream of the head's own, never torch's global.

torch has one global generator for all threads of a process. A head that seeded it would give other
weights when two heads are fitted at once, and would move the numbers of whoever called it. So what
a head draws, it draws here: `drawn_from` opens a stream, and the functions below read it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar

import torch
from torch import Tensor, nn


class Stream:
    """One generator for each device, all of one seed, as torch's global ones are."""

    def __init__(self, seed: int) -> None:
        self.restart(seed)

    def restart(self, seed: int) -> None:
        """Begin again at `seed`."""
        self.seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def on(self, device: torch.device) -> torch.Generator:
        """Return the generator of a device."""
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self.seed)
        return self._generators[device]


# Of the thread that fits. Outside of a fit there is none: a network that is loaded draws nothing,
# for its weights are about to be read.
_stream: ContextVar[Stream | None] = ContextVar("stream", default=None)


@contextlib.contextmanager
def drawn_from(seed: int) -> Iterator[Stream]:
    """Draw from a stream of this seed inside, on this thread."""
    stream = Stream(seed)
    token = _stream.set(stream)
    try:
        yield stream
    finally:
        _stream.reset(token)


def generator(device: torch.device | str = "cpu") -> torch.Generator:
    """Return the generator of the stream that is open; a fixed one where none is."""
    return (_stream.get() or Stream(0)).on(torch.device(device))


def normal(*shape: int) -> Tensor:
    """Return standard normal numbers of a shape."""
    return torch.randn(*shape, generator=generator())


def uniform_like(x: Tensor) -> Tensor:
    """Return numbers of [0, 1) in the shape of `x`, on its device."""
    return torch.rand(x.shape, generator=generator(x.device), dtype=x.dtype, device=x.device)


def integers(high: int, size: int, device: torch.device) -> Tensor:
    """Return `size` numbers of 0..high-1 on a device."""
    return torch.randint(high, (size,), generator=generator(device), device=device)


def linear(n_inputs: int, n_outputs: int, *, bias: bool = True) -> nn.Linear:
    """Return a linear layer whose weights start as PyTorch's: uniform in +-1 / sqrt(n_inputs)."""
    layer = nn.utils.skip_init(nn.Linear, n_inputs, n_outputs, bias=bias)
    bound = 1 / math.sqrt(max(n_inputs, 1))
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator())
        if bias:
            layer.bias.uniform_(-bound, bound, generator=generator())
    return layer
