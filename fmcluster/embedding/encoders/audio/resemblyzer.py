"""Voices: the speaker encoder of GE2E (Wan et al., arXiv 1710.10467) with Resemblyzer's weights.

A recording's mel spectrogram is cut into windows of 1.6 s, a little more than half of each overlaid
by the next; three LSTM layers give each window a unit vector, and the row is the unit vector of
their mean (256 values). It tells voices apart, not words.

The weights are read from the PyPI package Resemblyzer; its code is not run. So it can be installed
without what that code needs: ``pip install --no-deps Resemblyzer``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.audio import to_sound
from fmcluster.embedding.encoders.base import RUN, Run, TorchEncoder
from fmcluster.utils import files as _files
from fmcluster.utils.errors import MissingExtraError

if TYPE_CHECKING:
    import torch

INSTALL = "pip install --no-deps Resemblyzer"
WEIGHTS = "pretrained.pt"
# What the network was trained on: 40 mel bands of 25 ms every 10 ms, windows of 160 of them.
RATE = 16_000
FRAME, STEP, BANDS = 400, 160, 40
WINDOW = 160
# Windows start 1.3 times a second, as the weights' authors embed with.
SHIFT = round(RATE / 1.3 / STEP)
# A last window that lies beyond the recording by more than a quarter is left out.
LEAST_COVERED = 0.75
# Quiet recordings are raised to this level, in dB of full scale; loud ones stay.
LEVEL = -30.0
HIDDEN, LAYERS = 256, 3


class VoiceEncoder(TorchEncoder):
    """Unit vectors (n, 256) of voices.

    Silence is not cut out, as the package does where it finds its voice detector.

    Parameters
    ----------
    run : Run
        How it runs.
    """

    def __init__(
        self,
        *,
        run: Run = RUN,
    ) -> None:
        weights = weights_file()
        if weights is None:
            raise MissingExtraError(f"encoder 'packaged:resemblyzer' needs its weights: {INSTALL}")
        super().__init__(
            _network(weights),
            modality="audio",
            fingerprint={
                "encoder": "packaged:resemblyzer",
                "weights": _files.digest_file(weights),
                "preprocessing": f"soxr-hq-{RATE};at least {LEVEL} dBFS;mel-{BANDS}-slaney-power",
                "pooling": f"mean of windows of {WINDOW} frames every {SHIFT}",
                "normalisation": "l2",
                "truncation": None,
            },
            spec={"encoder": "packaged:resemblyzer"},
            run=run,
        )
        self.dim = HIDDEN
        self._filters = _mel_filters()

    def encode(self, rows: Sequence[Any]) -> NDArray[np.float32]:
        """Return the embeddings (n, 256) of recordings: `Sound`, or mappings of array and rate."""
        rows = list(rows)
        if not rows:
            return np.empty((0, HIDDEN), np.float32)
        parts = [self._windows(to_sound(row).at(RATE).samples) for row in rows]
        values = super().encode([window for windows in parts for window in windows])
        firsts = np.cumsum([0, *map(len, parts)])[:-1]
        found = np.add.reduceat(values, firsts)
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)

    def batch(self, prepared: list[Any], take: NDArray[np.int64]) -> torch.Tensor:
        """Return windows (b, 160, 40)."""
        import torch

        return self.to_device(torch.stack([prepared[row] for row in take]))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the unit vectors of windows."""
        import torch

        module: Any = self.module
        _, (hidden, _) = module.lstm(inputs)
        return torch.nn.functional.normalize(torch.relu(module.linear(hidden[-1])).float(), dim=1)

    def rows_per_batch(self, length: int) -> int:
        """Return the windows of a minute, or more on a GPU."""
        return 64 if self.device.type == "cpu" else 1024

    def _windows(self, samples: NDArray[np.float32]) -> list[torch.Tensor]:
        """Return the mel spectrogram's windows (160, 40), one at least."""
        import torch

        starts, padded = window_starts(len(samples))
        wave = torch.from_numpy(np.pad(_raised(samples), (0, max(0, padded - len(samples)))))
        frames = torch.stft(
            wave,
            FRAME,
            STEP,
            window=torch.hann_window(FRAME),
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        mel = (self._filters @ frames.abs().square()).T
        return [mel[start : start + WINDOW] for start in starts]


def window_starts(n_samples: int) -> tuple[list[int], int]:
    """Return the first frame of each window, and the samples that hold all of them."""
    n_frames = -(-(n_samples + 1) // STEP)
    starts = list(range(0, max(1, n_frames - WINDOW + SHIFT + 1), SHIFT))
    covered = (n_samples - starts[-1] * STEP) / (WINDOW * STEP)
    if covered < LEAST_COVERED and len(starts) > 1:
        starts.pop()
    return starts, (starts[-1] + WINDOW) * STEP


def _raised(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return quiet samples at `LEVEL`."""
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    if power == 0 or 10 * np.log10(power) >= LEVEL:
        return samples
    return (samples * 10 ** ((LEVEL - 10 * np.log10(power)) / 20)).astype(np.float32)


def _mel_filters() -> torch.Tensor:
    """Return Slaney's triangular filters (40, 201), of unit area."""
    import torch
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        FRAME // 2 + 1, BANDS, 0.0, RATE / 2, RATE, norm="slaney", mel_scale="slaney"
    )
    return torch.from_numpy(filters.T.astype(np.float32))


def weights_file() -> Path | None:
    """Return the file of the weights, or None without the package; its code is not imported."""
    spec = importlib.util.find_spec("resemblyzer")
    places = list(spec.submodule_search_locations or ()) if spec else []
    return next((path for p in places if (path := Path(p) / WEIGHTS).is_file()), None)


def _network(weights: Path) -> torch.nn.Module:
    """Return the network with its trained weights."""
    import torch

    saved = torch.load(weights, map_location="cpu", weights_only=True)["model_state"]
    network = torch.nn.ModuleDict(
        {
            "lstm": torch.nn.LSTM(BANDS, HIDDEN, LAYERS, batch_first=True),
            "linear": torch.nn.Linear(HIDDEN, HIDDEN),
        }
    )
    # The loss's own scale and offset are there, too.
    own = {key: value for key, value in saved.items() if key.startswith(("lstm.", "linear."))}
    network.load_state_dict(own)
    return network
