"""Audio encoders of transformers: wav2vec 2.0, HuBERT, WavLM, UniSpeech, Whisper, CLAP, AST.

Speech models give the mean of their last states over the frames of the recording itself
(``mean``); CLAP its projection into the space that it shares with texts (``projection``), or what
it projects (``pooler``); AST the state of its class tokens (``pooler``).

No row's embedding depends on the others of its batch. Shorter recordings are filled up with zeros
and masked. Models whose first layer is normalised over time (wav2vec2-base, hubert-base) were
trained without a mask; there, that norm is taken over the frames of each recording alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.encoders import sources
from fmcluster.embedding.encoders.audio.windows import WindowedEncoder
from fmcluster.embedding.encoders.base import RUN, Run
from fmcluster.utils import files as _files

if TYPE_CHECKING:
    import torch

WAVEFORM = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat")
# Family -> its poolings, the default first.
POOLINGS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(WAVEFORM, ("mean",)),
    "whisper": ("mean",),
    "clap": ("projection", "pooler"),
    "audio-spectrogram-transformer": ("pooler", "mean"),
}
# wav2vec 2.0 and HuBERT were trained on crops of at most 250,000 samples, 15.6 s.
WAVEFORM_SECONDS = 15
# AST's frames: 25 ms every 10 ms.
_AST_FRAME, _AST_STEP = 0.025, 0.01
# Whisper's states: two mel frames of 10 ms each.
_WHISPER_STATE = 0.02
# Of settings that do not change what the extractor gives.
_IGNORED = ("feature_extractor_type", "processor_class", "_processor_class", "return_tensors")


def is_audio(folder: Path) -> bool:
    """Return whether the folder's model takes recordings."""
    if _files.read_json(folder / "config.json").get("model_type") in POOLINGS:
        return True
    extractor = folder / "preprocessor_config.json"
    return extractor.is_file() and "sampling_rate" in _files.read_json(extractor)


class AudioEncoder(WindowedEncoder):
    """A transformers audio model, frozen, with the feature extractor of its folder.

    Parameters
    ----------
    folder : Path
        Model and feature extractor as `save_pretrained` leaves them.
    name, revision : str, optional
        Hub id and commit; without them the weights' digest identifies the encoder.
    pooling : "mean", "pooler" or "projection", optional
        None takes the family's own (`POOLINGS`).
    run : Run
        How it runs.

    Raises
    ------
    ValueError
        A family that is not known here, or a pooling that it does not have.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str | None = None,
        revision: str | None = None,
        pooling: str | None = None,
        run: Run = RUN,
    ) -> None:
        from transformers import AutoFeatureExtractor

        self.kind = str(_files.read_json(folder / "config.json").get("model_type"))
        if self.kind not in POOLINGS:
            raise ValueError(
                f"audio models of the family {self.kind!r} are not known: known are "
                f"{', '.join(POOLINGS)}; give an object with encode(list) that wraps yours"
            )
        self.pooling = pooling or POOLINGS[self.kind][0]
        if self.pooling not in POOLINGS[self.kind]:
            raise ValueError(
                f"pooling={pooling!r}: {self.kind!r} has {', '.join(POOLINGS[self.kind])}"
            )
        with sources.quiet_loading():
            self.extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
        self.rate = int(self.extractor.sampling_rate)
        self.unit = self.pooling == "projection"
        module = _load(folder, self.kind)
        self.shortest = _shortest(self.kind, module, self.rate)
        self.longest = _longest(self.kind, self.extractor, self.rate)
        seconds = round(self.longest / self.rate, 3)
        settings = sources.settings_digest(self.extractor.to_dict(), *_IGNORED)
        super().__init__(
            module,
            modality="audio",
            fingerprint={
                **sources.identity(folder, name, revision),
                "preprocessing": f"soxr-hq-{self.rate};{settings}",
                "pooling": f"{self.pooling}; of windows of at most {seconds} s",
                "normalisation": "l2" if self.unit else "none",
                "truncation": None,
            },
            spec={**sources.origin(folder, name, revision), "pooling": self.pooling},
            run=run,
        )

    def batch(self, prepared: list[Any], take: NDArray[np.int64]) -> dict[str, Any]:
        """Return what the feature extractor makes of the windows, and their lengths."""
        import torch

        windows = [prepared[row] for row in take]
        lengths = torch.tensor([len(window) for window in windows])
        options: dict[str, Any] = {"sampling_rate": self.rate, "return_tensors": "pt"}
        if self.kind in WAVEFORM:
            options.update(padding=True, return_attention_mask=True)
        made = self.extractor(windows, **options)
        inputs = {key: self.to_device(value) for key, value in made.items()}
        return {"inputs": inputs, "lengths": lengths.to(self.device)}

    def forward(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Return the pooled embeddings (b, d)."""
        given, lengths = inputs["inputs"], inputs["lengths"]
        if self.kind in WAVEFORM:
            return self._waveform(given, lengths)
        if self.kind == "whisper":
            states = self.module(given["input_features"]).last_hidden_state
            frames = (lengths / (self.rate * _WHISPER_STATE)).ceil().long()
            return _mean(states, frames.clamp(1, states.shape[1]))
        if self.kind == "clap":
            # "Longer" marks what was cropped at random to fit; windows never are.
            whole = given["is_longer"].new_zeros(given["is_longer"].shape)
            given = {"input_features": given["input_features"], "is_longer": whole}
            if self.pooling == "pooler":
                return self.module.audio_model(**given).pooler_output
            found = self.module.get_audio_features(**given)
            return found if hasattr(found, "shape") else found.pooler_output
        output = self.module(given["input_values"])
        if self.pooling == "pooler":
            return output.pooler_output
        return output.last_hidden_state[:, 2:].float().mean(dim=1)  # after two class tokens

    def _waveform(self, given: dict[str, Any], lengths: torch.Tensor) -> torch.Tensor:
        """Return the mean of the states over the frames of each recording."""
        from fmcluster.embedding.encoders.audio.norm import NormOverOwnFrames

        values = given["input_values"]
        is_padded = bool((lengths < values.shape[1]).any())
        for layer in self.module.modules():
            if isinstance(layer, NormOverOwnFrames):
                layer.valid = self._after_first(lengths) if is_padded else None
        mask = given["attention_mask"] if is_padded else None
        states = self.module(values, attention_mask=mask).last_hidden_state
        return _mean(states, self.module._get_feat_extract_output_lengths(lengths).long())

    def _after_first(self, lengths: torch.Tensor) -> torch.Tensor:
        config = self.module.config
        return (lengths - config.conv_kernel[0]) // config.conv_stride[0] + 1


def _mean(states: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Return the mean (b, d) of the first `counts` states of each row (b, t, d)."""
    import torch

    there = torch.arange(states.shape[1], device=states.device) < counts[:, None]
    kept = states.float().masked_fill(~there[:, :, None], 0.0)
    return kept.sum(dim=1) / counts[:, None]


def _load(folder: Path, kind: str) -> torch.nn.Module:
    """Return the audio model of the folder, its weights complete, without towers of text."""
    import torch

    from fmcluster.embedding.encoders.audio.norm import NormOverOwnFrames

    # The decoder and the text tower are dropped below; masks are of training alone.
    unused = ("masked_spec_embed", "decoder.", "text_model.", "text_projection", "logit_scale")
    with sources.quiet_loading():
        module = sources.load_model(folder, unused=unused)
    if kind == "whisper":
        return module.encoder
    if kind == "clap":
        for part in ("text_model", "text_projection"):
            delattr(module, part)
    if kind in WAVEFORM:
        if getattr(module, "adapter", None) is not None:
            module.adapter = None  # shortens states for a decoder behind them
        first = module.feature_extractor.conv_layers[0]
        if isinstance(getattr(first, "layer_norm", None), torch.nn.GroupNorm):
            first.layer_norm = NormOverOwnFrames(first.layer_norm)
    return module


def _shortest(kind: str, module: torch.nn.Module, rate: int) -> int:
    """Return the samples that give one frame."""
    if kind == "audio-spectrogram-transformer":
        return int(_AST_FRAME * rate)
    if kind not in WAVEFORM:
        return 1
    count = 1
    config: Any = module.config
    for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
        count = (count - 1) * stride + kernel
    return int(count)


def _longest(kind: str, extractor: Any, rate: int) -> int:
    """Return the samples that the model takes at once, or was trained on."""
    if kind == "clap":
        return int(extractor.nb_max_samples)
    if kind == "whisper":
        return int(extractor.n_samples)
    if kind in WAVEFORM:
        return WAVEFORM_SECONDS * rate
    return int((extractor.max_length - 1) * _AST_STEP * rate + _AST_FRAME * rate)
