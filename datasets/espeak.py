"""Speech synthesis with espeak-ng, one fresh process image per utterance, so that an utterance never depends on those before it.

espeak-ng keeps state between calls (oscillator phases, intonation counters, a random seed taken from the clock): the second time a process
speaks a sentence, other samples come out, even after `espeak_Terminate`. This file is therefore also a small program, run in a child
process that imports only the standard library; it forks once per utterance. The library is thus never loaded into the benchmark's own
process, which keeps threads and forkservers safe.

espeak-ng is free software under GPL-3.0-or-later; the audio that it produces is not covered by that licence.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SAMPLE_RATE = 22050
_SYNCHRONOUS, _RATE, _PITCH, _RANGE = 2, 1, 3, 4  # espeak_AUDIO_OUTPUT and espeak_PARAMETER of speak_lib.h
_UTF8 = 1


@dataclass(frozen=True)
class Utterance:
    """What is said: ``text`` by ``voice`` (``language+variant``) at ``rate`` (words per minute), ``pitch`` (0 to 100) and pitch ``range``."""

    text: str
    voice: str
    rate: int = 175
    pitch: int = 50
    range: int = 50


def available() -> str | None:
    """Return None when the espeak-ng library of the ``espeakng-loader`` wheel is installed, else one sentence."""
    from importlib.util import find_spec

    if find_spec("espeakng_loader") is None:
        return "dataset 'speech' needs the espeak-ng library, which is not installed; run `pip install espeakng-loader`."
    return None


def library() -> tuple[str, str]:
    """Return the paths of the espeak-ng shared library and of its data folder."""
    import espeakng_loader

    return espeakng_loader.get_library_path(), espeakng_loader.get_data_path()


def synthesise(utterances: Sequence[Utterance]) -> list[np.ndarray]:
    """Return int16 (T,) samples at 22050 Hz for every utterance; equal in every process and for every order of the list.

    Raises RunError when the library cannot speak one of them (unknown voice, missing data).
    """
    # a platform without fork gets one process per utterance
    batches = [list(utterances)] if hasattr(os, "fork") else [[u] for u in utterances]
    return [audio for batch in batches for audio in _run(batch)]


def _run(batch: list[Utterance]) -> list[np.ndarray]:
    import numpy as np

    from ..configs.errors import RunError

    command = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), *library()]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ESPEAK", "LC_", "LANG"))} | {"LC_ALL": "C"}
    done = subprocess.run(
        command, input=json.dumps([asdict(u) for u in batch]).encode(), capture_output=True, env=environment, timeout=600, check=False
    )
    if done.returncode != 0:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise RunError(f"espeak-ng could not synthesise the speech dataset ({reason}); reinstall espeakng-loader.")
    out, position = [], 0
    for _ in batch:
        (size,) = struct.unpack_from("<q", done.stdout, position)
        position += 8
        out.append(np.frombuffer(done.stdout, dtype="<i2", count=size // 2, offset=position).astype(np.int16))
        position += size
    return out


# ---------------------------------------------------------------------------------------------------- the child process
def _speak(library_path: str, data_path: str, job: dict) -> bytes:
    """Load the library, say one utterance, return its PCM. Called once in the life of a process."""
    lib = ctypes.CDLL(library_path)
    if lib.espeak_Initialize(_SYNCHRONOUS, 0, data_path.encode(), 0) != SAMPLE_RATE:
        raise SystemExit(f"espeak_Initialize failed with the data in {data_path}")
    pieces: list[bytes] = []

    def keep(wave: int | None, count: int, events: int | None) -> int:
        if wave and count > 0:
            pieces.append(ctypes.string_at(wave, 2 * count))
        return 0

    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(keep)
    lib.espeak_SetSynthCallback(callback)
    lib.espeak_ng_SetRandSeed(ctypes.c_long(1))  # espeak_Initialize seeds from the clock
    if lib.espeak_SetVoiceByName(job["voice"].encode()) != 0:
        raise SystemExit(f"unknown voice {job['voice']}")
    for parameter, value in ((_RATE, job["rate"]), (_PITCH, job["pitch"]), (_RANGE, job["range"])):
        lib.espeak_SetParameter(parameter, value, 0)
    text = job["text"].encode() + b"\0"
    if lib.espeak_Synth(text, ctypes.c_size_t(len(text)), 0, 0, 0, _UTF8, None, None) != 0:
        raise SystemExit(f"espeak_Synth failed for {job['text']!r}")
    lib.espeak_Synchronize()
    return b"".join(pieces)


def _forked(library_path: str, data_path: str, job: dict) -> bytes:
    """Say one utterance in a forked child of this (single-threaded, library-free) process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            with os.fdopen(writer, "wb") as f:
                f.write(_speak(library_path, data_path, job))
            status = 0
        except SystemExit as e:
            sys.stderr.write(f"{e}\n")
            sys.stderr.flush()
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as f:
        pcm = f.read()
    if os.waitpid(child, 0)[1] != 0:
        raise SystemExit(1)
    return pcm


def _main(library_path: str, data_path: str) -> None:
    jobs = json.loads(sys.stdin.buffer.read())
    say = _forked if hasattr(os, "fork") and len(jobs) > 1 else _speak
    for job in jobs:
        pcm = say(library_path, data_path, job)
        sys.stdout.buffer.write(struct.pack("<q", len(pcm)) + pcm)


if __name__ == "__main__":
    _main(*sys.argv[1:])
