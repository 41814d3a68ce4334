"""Rank, world size, shard ranges, reductions: the only module that reads Accelerate's state.

With one process (no launcher) nothing of torch or Accelerate is imported, and every reduction is
the identity, so callers are written once for one process and for many.
"""

from __future__ import annotations

import atexit
import functools
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator, PartialState


def is_launched() -> bool:
    """Return whether a launcher (accelerate, torchrun) started more than one process."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@functools.cache
def _leave_at_exit() -> None:
    """Leave the process group when the interpreter ends: a thread still in it aborts the exit."""
    atexit.register(_leave)


def _leave() -> None:
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _state() -> PartialState:
    from accelerate import PartialState

    _leave_at_exit()

    return PartialState(cpu=os.environ.get("ACCELERATE_USE_CPU", "") == "true")


def rank() -> int:
    """Return this process's number, 0 where there is one."""
    return _state().process_index if is_launched() else 0


def world_size() -> int:
    """Return the number of processes."""
    return _state().num_processes if is_launched() else 1


def is_main() -> bool:
    """Return whether this process speaks for all."""
    return rank() == 0


def barrier() -> None:
    """Wait until every process has come here."""
    if is_launched():
        _state().wait_for_everyone()


def device(name: str | torch.device | None = None) -> torch.device:
    """Return the asked device, or the one Accelerate gives this process."""
    import torch

    return torch.device(name) if name is not None else _given_device()


@functools.cache
def _given_device() -> torch.device:
    """Return the device of Accelerate's first state; `accelerator` may replace that by another."""
    return _state().device


def gpu() -> torch.device | None:
    """Return the CUDA (or ROCm) device that Accelerate gives this process, None without one.

    Machines without a driver are told apart by its files: nothing of torch is imported for them.
    """
    if os.environ.get("ACCELERATE_USE_CPU", "") == "true" or not _has_driver():
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    found = device()
    return found if found.type == "cuda" else None


def has_room(device: torch.device, n_bytes: int) -> bool:
    """Return whether arrays of `n_bytes` fit into half of a device's free memory."""
    if device.type != "cuda":
        return True
    import torch

    return 2 * n_bytes <= torch.cuda.mem_get_info(device)[0]


def has_own_room(device: torch.device, n_bytes: int) -> bool:
    """Return whether a device has memory of its own, and arrays of `n_bytes` fit into half of it.

    Of what several heads put there at once nothing is known: half of what is free is left.
    """
    return device.type == "cuda" and has_room(device, n_bytes)


@functools.cache
def _has_driver() -> bool:
    """Return whether a driver of NVIDIA or AMD is loaded (under WSL: by its own device)."""
    return any(os.path.exists(f"/dev/{name}") for name in ("nvidiactl", "kfd", "dxg"))


def accelerator(on: torch.device, **settings: Any) -> Accelerator:
    """Return an Accelerator: the one seam for mixed precision and gradients.

    Parameters
    ----------
    on : torch.device
        Where the modules that it prepares are already, and stay.
    **settings
        Of Accelerator.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedDataParallelKwargs

    given = device()
    # The state is one for the process: a run in another precision than the last, or on another
    # kind of device, begins anew.
    asked, held = settings.get("mixed_precision", "no"), AcceleratorState._shared_state
    moved = not is_launched() and PartialState().device.type != on.type
    if moved or (held and held.get("_mixed_precision", asked) != asked):
        AcceleratorState._reset_state(reset_partial_state=moved)
    if moved and on.type == given.type:
        _state()
    settings = {"cpu": on.type == "cpu", "device_placement": False, **settings}
    # A head's loss need not touch each of its weights in every step (a frozen first epoch).
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=True)]
    return Accelerator(kwargs_handlers=handlers, **settings)


def my_share(n_items: int) -> range:
    """Return the item numbers of this rank: every world-size-th, so that ranks end together."""
    return range(rank(), n_items, world_size())


def my_block(n_items: int) -> range:
    """Return the item numbers of this rank: as many as any other has, one after the other."""
    edges = [n_items * r // world_size() for r in (rank(), rank() + 1)]
    return range(*edges)


def sum_over_ranks(array: NDArray[Any]) -> NDArray[Any]:
    """Return the elementwise sum of `array` over all processes (fp64 on the wire)."""
    if not is_launched():
        return array
    import torch

    _state()
    tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float64)).to(device())
    torch.distributed.all_reduce(tensor)
    return tensor.cpu().numpy().astype(array.dtype, copy=False).reshape(array.shape)


def join_blocks(own: NDArray[Any], n_items: int) -> NDArray[Any]:
    """Return all items' rows (n, ...), of which each process gives those of `my_block`."""
    if not is_launched():
        return own
    block, whole = my_block(n_items), np.zeros((n_items, *own.shape[1:]), own.dtype)
    whole[block.start : block.stop] = own
    return sum_over_ranks(whole)


def mean_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """Return the mean of `tensor` over all processes, with gradient: batch statistics of a loss."""
    if not is_launched():
        return tensor
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(tensor) / world_size()
