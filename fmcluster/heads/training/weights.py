"""Weights of a module as numpy arrays, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


def to_arrays(module: nn.Module) -> dict[str, NDArray[Any]]:
    """Return parameters and buffers as numpy arrays."""
    arrays = {key: value.detach().cpu() for key, value in module.state_dict().items()}
    return {
        key: (value.float() if value.is_floating_point() else value).numpy()
        for key, value in arrays.items()
    }


def from_arrays(module: nn.Module, arrays: dict[str, NDArray[Any]]) -> nn.Module:
    """Load what `to_arrays` gave; wrong names or shapes raise."""
    module.load_state_dict({key: torch.from_numpy(np.array(v)) for key, v in arrays.items()})
    return module.eval()
