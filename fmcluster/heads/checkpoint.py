"""Checkpoints of a training run: tensors and JSON, whole or absent, refused if of another run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fmcluster._files import atomic_path, stable_hash


class Checkpoint:
    """One file, replaced after every epoch.

    Parameters
    ----------
    folder : Path
        Where ``checkpoint.safetensors`` lies.
    settings : dict
        What makes two runs the same; another run's checkpoint is left alone and not resumed.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.path = folder / "checkpoint.safetensors"
        self.key = stable_hash(settings)

    def save(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, history: list[dict[str, float]]
    ) -> None:
        """Write module, optimiser and loss curve."""
        from safetensors.torch import save_file

        tensors = {f"module.{k}": v.detach().contiguous() for k, v in module.state_dict().items()}
        for index, slots in optimizer.state_dict()["state"].items():
            for slot, value in slots.items():
                if value is not None:
                    tensors[f"optimizer.{index}.{slot}"] = torch.as_tensor(value).contiguous()
        # safetensors refuses tensors that share memory: clone what is written.
        tensors = {key: value.clone() for key, value in tensors.items()}
        about = {"key": self.key, "history": json.dumps(history)}
        with atomic_path(self.path) as temporary:
            save_file(tensors, temporary, metadata=about)

    def load(
        self, module: nn.Module, optimizer: torch.optim.Optimizer
    ) -> list[dict[str, float]] | None:
        """Restore module and optimiser; return the loss curve, or None where there is nothing."""
        from safetensors import safe_open

        if not self.path.is_file():
            return None
        with safe_open(self.path, framework="pt") as handle:
            about = handle.metadata() or {}
            if about.get("key") != self.key:
                return None
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
        module.load_state_dict(
            {key[7:]: value for key, value in tensors.items() if key.startswith("module.")}
        )
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, slot = key.split(".", 2)
                state.setdefault(int(index), {})[slot] = value
        saved = optimizer.state_dict()
        saved["state"] = state
        optimizer.load_state_dict(saved)
        return json.loads(about["history"])
