"""Recordings of any kind to one channel of float32 samples: the one place where they are opened.

A row of audio is a file (WAV, FLAC, OGG, Opus, MP3, AIFF and others of libsndfile), its bytes, the
HF ``Audio`` struct, or samples with their rate, as ``{"array": ..., "sampling_rate": ...}``.
Channels are averaged. What rate an encoder wants is its own matter (`Sound.at`).
"""

from __future__ import annotations

import functools
import io
import re
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fmcluster.utils.errors import MissingExtraError
from fmcluster.utils.optional import require

if TYPE_CHECKING:
    import soundfile

# What a store of recordings was read by; compared when a store is taken up.
AUDIO_RULE = "float32;channels-averaged"
AUDIO_SUFFIXES = frozenset(
    (".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au")
    + (".caf", ".w64", ".rf64")
)
# Formats of libsndfile that say by themselves what they hold; never RAW, which is anything.
FORMATS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "W64", "RF64")
# Three hours at 48 kHz, 2 GiB of float32: more in one row is a mistake, or a header that lies.
MOST_SAMPLES = 2**29
# Frames read at once: all channels of so many are held beside the averaged ones.
_FRAMES = 2**18
# Rates of recordings: below, no speech is left; above, no device records.
RATES = (1_000, 768_000)
# How files of these formats begin.
_STARTS = (b"fLaC", b"OggS", b"ID3", b".snd", b"caff", b"riff", b"RF64")
# The size that a header states and what is there, in libsndfile's own words.
_SIZES = re.compile(
    r"^\s*(?:RIFF|riff|Riff size|FORM|Data Size|data)\s*:\s*(\d+) \(should be (\d+)\)", re.M
)
# Sizes that writers to a pipe leave in the header, for they cannot go back.
_UNSTATED = (0, 2**31 - 1, 2**31, 2**32 - 1)
_ENDLESS = "File ended unexpectedly without an End-Of-Stream flag"
# Sloppy writers are some bytes off, and an MP3's length is counted in frames: no damage.
_LEAST_SHARE = 0.99
# Of clips in pages: speech and music are told apart well at 48 kbit/s, 6 kB a second.
CLIP_SECONDS = 10.0
CLIP_RATE = 24_000


class UnreadableAudio(ValueError):  # noqa: N818 - never leaves the package
    """A recording that cannot be had; the message is the reason."""


@dataclass(frozen=True, eq=False)
class Sound:
    """A recording of one channel.

    Attributes
    ----------
    samples : ndarray (n,) float32
        Mostly within -1 and 1.
    rate : int
        Samples a second.
    """

    samples: NDArray[np.float32]
    rate: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate

    def __repr__(self) -> str:
        return f"Sound({self.seconds:.2f} s at {self.rate} Hz)"

    def at(self, rate: int) -> Sound:
        """Return it at another rate, by soxr's high-quality filter."""
        if rate == self.rate:
            return self
        soxr = require("soxr", extra="audio")
        return Sound(soxr.resample(self.samples, self.rate, rate, quality="HQ"), rate)


def is_recording(row: Any) -> bool:
    """Return whether a row holds samples: a `Sound`, a mapping of array and rate, or a decoder."""
    if isinstance(row, Mapping):
        return row.get("array") is not None and "sampling_rate" in row
    return isinstance(row, Sound) or callable(getattr(row, "get_all_samples", None))


def starts_as_audio(head: bytes) -> bool:
    """Return whether bytes begin as those of a recording do."""
    if head[:4] in (b"RIFF", b"FORM"):
        return head[8:12] in (b"WAVE", b"AIFF", b"AIFC")
    # MPEG audio: eleven set bits, then a layer that exists; a JPEG's ff d8 is none of these.
    is_mpeg = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 in (0xE2, 0xE4, 0xE6)
    return head.startswith(_STARTS) or is_mpeg


def to_sound(row: Any) -> Sound:
    """Return samples in memory as a `Sound`: one of these, a mapping, or a torchcodec decoder.

    Raises
    ------
    UnreadableAudio
        No samples, not-a-number among them, or no rate that a recording has.
    TypeError
        Anything else.
    """
    if isinstance(row, Sound):
        return row
    if isinstance(row, Mapping) and is_recording(row):
        return _from_array(row["array"], row["sampling_rate"])
    if is_recording(row):
        found = row.get_all_samples()
        return _from_array(found.data, found.sample_rate)
    raise TypeError(
        f"an audio encoder needs recordings, got {type(row).__name__}: give "
        "{'array': samples, 'sampling_rate': rate}, or files through embed"
    )


def _from_array(array: Any, rate: Any) -> Sound:
    values = np.asarray(array)
    if not (isinstance(rate, (int, np.integer, float)) and RATES[0] <= rate <= RATES[1]):
        raise UnreadableAudio(f"a sampling rate of {rate!r} is none of a recording")
    if values.ndim not in (1, 2) or values.dtype.kind not in "fiu":
        raise UnreadableAudio(
            f"samples of shape {values.shape} and type {values.dtype} are no recording: (n,) or "
            "(channels, n) numbers are"
        )
    if values.dtype.kind == "u":
        values = values.astype(np.float32) / 2 ** (8 * values.dtype.itemsize - 1) - 1
    elif values.dtype.kind == "i":
        values = values.astype(np.float32) / 2 ** (8 * values.dtype.itemsize - 1)
    if values.ndim == 2:  # channels are few, samples many
        values = values.mean(axis=int(np.argmin(values.shape)), dtype=np.float32)
    return _checked(values.astype(np.float32, copy=False), int(rate))


def _checked(samples: NDArray[np.float32], rate: int) -> Sound:
    if not len(samples):
        raise UnreadableAudio("it holds no samples")
    if len(samples) > MOST_SAMPLES:
        raise UnreadableAudio(_too_long(len(samples), rate))
    if not np.isfinite(samples).all():
        raise UnreadableAudio("it holds samples that are not numbers")
    return Sound(samples, rate)


def _too_long(n_samples: int, rate: int) -> str:
    return (
        f"it is {n_samples / rate / 3600:.1f} hours long ({n_samples} samples, {MOST_SAMPLES} are "
        "the limit): cut it into rows"
    )


def decode_audio(content: bytes | BinaryIO) -> Sound:
    """Return an encoded recording as a `Sound`.

    Raises
    ------
    UnreadableAudio
        Not of a known format, damaged, cut short, empty, or beyond `MOST_SAMPLES`.
    MissingExtraError
        soundfile is not installed.
    """
    library = require("soundfile", extra="audio")
    try:
        with library.SoundFile(_stream(content)) as file:
            _check_header(file)
            return _checked(_averaged(file), file.samplerate)
    except (library.LibsndfileError, OSError) as error:
        said = getattr(error, "error_string", None) or str(error)
        raise UnreadableAudio(said.strip().rstrip(".")) from None


def _stream(content: Any) -> BinaryIO:
    return io.BytesIO(content) if isinstance(content, (bytes, bytearray, memoryview)) else content


def _check_header(file: soundfile.SoundFile) -> None:
    if file.format not in FORMATS:
        raise UnreadableAudio(f"it is of format {file.format}, which says nothing of its content")
    for stated, there in _SIZES.findall(file.extra_info):
        if int(stated) not in _UNSTATED and int(there) < _LEAST_SHARE * int(stated):
            raise UnreadableAudio(f"it is cut short: {there} of {stated} bytes are there")
    if _ENDLESS in file.extra_info:
        raise UnreadableAudio("it is cut short: its stream has no end")
    if RATES[0] <= file.samplerate <= RATES[1]:
        # A stream's header states no length, or the largest number there is.
        if MOST_SAMPLES < file.frames < 2**62:
            raise UnreadableAudio(_too_long(file.frames, file.samplerate))
        return
    raise UnreadableAudio(f"a sampling rate of {file.samplerate} is none of a recording")


def _averaged(file: soundfile.SoundFile) -> NDArray[np.float32]:
    """Return the mean of the channels, read piece by piece."""
    parts: list[NDArray[np.float32]] = []
    count = 0
    while len(part := file.read(_FRAMES, dtype="float32", always_2d=True)):
        count += len(part)
        if count > MOST_SAMPLES:
            raise UnreadableAudio(_too_long(count, file.samplerate))
        parts.append(part[:, 0] if file.channels == 1 else part.mean(axis=1, dtype=np.float32))
    if file.frames < MOST_SAMPLES and count < _LEAST_SHARE * file.frames:
        raise UnreadableAudio(f"it is cut short: {count} of {file.frames} samples are there")
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def audio_bytes(content: bytes | BinaryIO) -> int:
    """Return how many bytes a recording takes as samples, by its header; 0 where none is read."""
    library = require("soundfile", extra="audio")
    try:
        with library.SoundFile(_stream(content)) as file:
            frames = int(file.frames)
    except (library.LibsndfileError, OSError):  # decoding will name the row
        return 0
    return 4 * min(frames, MOST_SAMPLES)


def playable(sound: Sound, *, seconds: float | None = CLIP_SECONDS) -> tuple[bytes, str]:
    """Return a recording's beginning as a file that browsers play, and its mime type.

    Parameters
    ----------
    sound : Sound
        A decoded row.
    seconds : float, optional
        How much of it; None for all.

    Returns
    -------
    (bytes, str)
        An MP3 file and "audio/mpeg", about 6 kB a second; a 16-bit WAV file and "audio/wav" where
        the extra is not installed or its libsndfile writes no MP3.
    """
    most = len(sound.samples) if seconds is None else max(1, int(seconds * sound.rate))
    part = Sound(sound.samples[:most], sound.rate)
    if not can_read():
        return _wav(part), "audio/wav"
    if part.rate > CLIP_RATE:
        part = part.at(CLIP_RATE)
    elif part.rate not in (8_000, 11_025, 12_000, 16_000, 22_050, 24_000):  # those that MP3 has
        part = part.at(16_000)
    if not _writes_mp3():
        return _wav(part), "audio/wav"
    out = io.BytesIO()
    samples = np.clip(part.samples, -1, 1)
    require("soundfile", extra="audio").write(out, samples, part.rate, format="MP3")
    return out.getvalue(), "audio/mpeg"


def _wav(sound: Sound) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sound.rate)
        file.writeframes(np.rint(32_767 * np.clip(sound.samples, -1, 1)).astype("<i2").tobytes())
    return out.getvalue()


@functools.cache
def _writes_mp3() -> bool:
    library = require("soundfile", extra="audio")
    return "MP3" in library.available_formats()


def can_read() -> bool:
    """Return whether the packages of the extra are here."""
    try:
        return bool(require("soundfile", extra="audio") and require("soxr", extra="audio"))
    except MissingExtraError:
        return False
