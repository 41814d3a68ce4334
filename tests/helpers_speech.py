"""Speech made by eSpeak NG, as the system or the package ``espeakng-loader`` brings it."""

import ctypes
import ctypes.util
import functools

import numpy as np
import pytest

from fmcluster.embedding.data.audio import Sound

# Numbers of speak_lib.h.
SYNCHRONOUS, CHARACTERS, UTF8 = 2, 1, 1
RATE, PITCH = 1, 3
HEARD = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@functools.cache
def _library():
    try:
        import espeakng_loader

        name, data = espeakng_loader.get_library_path(), espeakng_loader.get_data_path().encode()
    except ImportError:
        name, data = ctypes.util.find_library("espeak-ng"), None
    if name is None:
        return None, 0
    library = ctypes.CDLL(name)
    return library, library.espeak_Initialize(SYNCHRONOUS, 0, data, 0)


def say(text: str, voice: str, *, speed: int = 160, pitch: int = 50) -> Sound:
    """Return a sentence as a voice says it, such as "en-us+f2"; skip where nothing can speak."""
    library, rate = _library()
    if rate <= 0:
        pytest.skip("nothing speaks here: pip install espeakng-loader")
    parts = []

    @HEARD
    def hear(samples, count, _events):
        if samples and count:
            parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library.espeak_SetSynthCallback(hear)
    assert library.espeak_SetVoiceByName(voice.encode()) == 0, voice
    library.espeak_SetParameter(RATE, speed, 0)
    library.espeak_SetParameter(PITCH, pitch, 0)
    said = text.encode() + b"\0"
    library.espeak_Synth(said, len(said), 0, CHARACTERS, 0, UTF8, None, None)
    return Sound(np.concatenate(parts).astype(np.float32) / 2**15, rate)
