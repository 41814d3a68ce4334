"""Checkpoints of a training run: tensors and JSON, whole or absent, refused if of another run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fmcluster.utils.errors import CorruptShardError
from fmcluster.utils.files import atomic_path, digest_bytes, stable_hash


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
        """Write module, optimizer and loss curve."""
        from safetensors.torch import save_file

        tensors = {f"module.{k}": v.detach().contiguous() for k, v in module.state_dict().items()}
        for index, slots in optimizer.state_dict()["state"].items():
            for slot, value in slots.items():
                if value is not None:
                    tensors[f"optimizer.{index}.{slot}"] = torch.as_tensor(value).contiguous()
        # safetensors refuses tensors that share memory: clone what is written.
        tensors = {key: value.clone() for key, value in tensors.items()}
        about = {"key": self.key, "history": json.dumps(history), "digest": _digest(tensors)}
        with atomic_path(self.path) as temporary:
            save_file(tensors, temporary, metadata=about)

    def load(
        self, module: nn.Module, optimizer: torch.optim.Optimizer
    ) -> list[dict[str, float]] | None:
        """Restore module and optimizer; return the loss curve, or None where there is nothing.

        Raises
        ------
        CorruptShardError
            The file is damaged.
        """
        if not self.path.is_file():
            return None
        about, tensors = self._read()
        if about.get("key") != self.key:
            return None
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

    def _read(self) -> tuple[dict[str, str], dict[str, Tensor]]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as handle:
                about = handle.metadata() or {}
                tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
        except (SafetensorError, ValueError) as error:
            raise CorruptShardError(
                f"{self.path} is not a readable checkpoint ({error}): remove it to begin again"
            ) from None
        if about.get("digest") != _digest(tensors):
            raise CorruptShardError(
                f"{self.path} does not match its own digest: remove it to begin again"
            )
        return about, tensors


def _digest(tensors: dict[str, Tensor]) -> str:
    """Return the digest of names and bytes."""
    parts = [
        key.encode() + value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
        for key, value in sorted(tensors.items())
    ]
    return digest_bytes(b"".join(parts))
