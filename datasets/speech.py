"""Utterances synthesised with espeak-ng, 16 kHz: no recording is needed, no speaker can object, and every machine makes the same samples.

Each utterance is a sentence of `sentences.py` said by one voice, resampled to 16 kHz, placed in 2 s of digital silence 0.2 to 0.3 s after the
start (noise trackers need a moment without speech), scaled to one level and rounded to 16 bits as a wav file would be. Voices and
sentences of the splits are disjoint. Synthetic voices are more regular than people: gains measured here do not carry over to recordings.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..configs.errors import RunError
from . import espeak
from .base import Dataset, Sample
from .keys import keyed
from .sentences import script, voices

if TYPE_CHECKING:
    import numpy as np

FS = 16000
LENGTH = 2 * FS
RMS = 0.05
"""Root mean square over the whole 2 s: -26 dB of full scale, which leaves room for noise at 0 dB."""


class Speech(Dataset):
    """Synthetic utterances of 2 s. ``audio``: float32 (1, 32000); ``sample_rate``: 16000; ``text``; ``voice``. Cluster: the voice."""

    id = "speech"
    title = "Synthetic utterances, 36 voices, 16 kHz (espeak-ng)"
    kind = "audio"
    licence = "CC0-1.0 (audio and sentences); espeak-ng itself, in the espeakng-loader wheel, is GPL-3.0-or-later"
    pixels = "redistribute"
    source = "espeak-ng 1.52 through the espeakng-loader wheel; sentences written for scorebench"
    citation = """@misc{espeakng,
  author = {Duddington, Jonathan and Dunn, Reece H. and others},
  title = {eSpeak NG: speech synthesizer},
  howpublished = {https://github.com/espeak-ng/espeak-ng}
}"""
    sample_rate = FS
    libraries = ("espeakng-loader", "numpy", "scipy")

    def files(self) -> list[Path]:
        """Return the synthesiser's library: another one speaks differently."""
        return [Path(espeak.library()[0])] if espeak.available() is None else []

    def missing(self) -> str | None:
        """Return None when espeak-ng is installed, else one sentence."""
        return espeak.available()

    def _ids(self, split: str) -> list[str]:
        names = [v["name"] for v in voices(split)]
        return [f"{names[v]}-{k}" for v, k, _ in script(split)]

    def _load(self, split: str, sample_id: str) -> Sample:
        import numpy as np

        position = self._ids(split).index(sample_id)
        voice, _, text = script(split)[position]
        audio = self._audio[split][position].astype(np.float32)[None] / np.float32(32768)
        name = str(voices(split)[voice]["name"])
        return Sample(sample_id, name, {"audio": audio, "sample_rate": FS, "text": text, "voice": name})

    @cached_property
    def _audio(self) -> dict[str, np.ndarray]:
        """All utterances, int16 (n, LENGTH) per split; synthesised once a machine (about 2 s)."""
        from .arrays import cached_array

        jobs = self.utterances()
        counts = {split: len(script(split)) for split in self.splits}
        everything = cached_array(f"speech-{self._key(jobs)}", lambda: self._synthesise(jobs))
        out, start = {}, 0
        for split, n in counts.items():
            out[split] = everything[start : start + n]
            start += n
        return out

    def utterances(self) -> list[espeak.Utterance]:
        """Return what is synthesised, split by split."""
        out = []
        for split in self.splits:
            of = voices(split)
            for voice, _, text in script(split):
                v: dict[str, Any] = of[voice]
                out.append(espeak.Utterance(text, v["voice"], v["rate"], v["pitch"]))
        return out

    def _key(self, jobs: list[espeak.Utterance]) -> str:
        """Hash everything the samples depend on: what is said, the library's bytes, this code, and who resamples."""
        import numpy as np
        import scipy

        digest = hashlib.sha256(repr(jobs).encode())
        digest.update(Path(espeak.library()[0]).read_bytes())
        for module in (__file__, espeak.__file__):
            digest.update(Path(module).read_bytes())
        digest.update(f"{self.version}|{scipy.__version__}|{np.__version__}".encode())
        return digest.hexdigest()[:24]

    def _synthesise(self, jobs: list[espeak.Utterance]) -> np.ndarray:
        import numpy as np

        return np.stack([place(pcm, job.text) for job, pcm in zip(jobs, espeak.synthesise(jobs), strict=True)])


def place(pcm: np.ndarray, text: str) -> np.ndarray:
    """Resample 22.05 kHz int16 to 16 kHz, trim silence, place it after a lead-in keyed by ``text``, set the level: int16 (LENGTH,).

    Raises RunError when the speech does not fit (a synthesiser that speaks more slowly than the one the sentences were written for).
    """
    import numpy as np
    from scipy.signal import resample_poly

    x = resample_poly(pcm.astype(np.float64) / 32768, 320, 441)
    loud = np.flatnonzero(np.abs(x) > 0.01 * np.abs(x).max()) if len(x) and np.abs(x).max() > 0 else np.zeros(0, int)
    if len(loud) == 0:
        raise RunError(f"espeak-ng produced silence for {text!r}; reinstall espeakng-loader.")
    x = x[loud[0] : loud[-1] + 1]
    ramp = np.minimum(np.arange(1, len(x) + 1) / (0.005 * FS), 1.0)  # 5 ms fades: cutting must not click
    x = x * ramp * ramp[::-1]
    lead = int(keyed("speech-lead", text).integers(int(0.2 * FS), int(0.3 * FS)))
    if lead + len(x) > LENGTH:
        raise RunError(f"the utterance {text!r} lasts {len(x) / FS:.2f} s and does not fit into 2 s; install espeakng-loader 0.2.4.")
    out = np.zeros(LENGTH)
    out[lead : lead + len(x)] = x
    out *= RMS / np.sqrt(np.mean(out**2))
    return np.clip(np.round(out * 32768), -32768, 32767).astype(np.int16)
