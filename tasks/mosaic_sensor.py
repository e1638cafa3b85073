"""Joint demosaicking and denoising of pictures with sensor noise, by methods that learned it with white noise."""

from __future__ import annotations

import numpy as np

from ..datasets.base import Sample
from .base import Observation
from .isp import mosaic, pack, sparse, unpack
from .mosaic import MosaicTask
from .noise_raw import camera
from .training_data import tensor


class SensorMosaicTask(MosaicTask):
    """As `MosaicTask`, training included, but test and dev pictures have the noise of a simulated camera (`noise_raw`): photon noise, read
    noise with heavy tails, rows, an offset per colour. ``observe.test``: ``{camera: a, iso: 1600, amplification: [low, high]}``,
    the amplification uniform per sample.

    ``noise_level`` is the root mean square of the camera's noise at the brightness of the noisy picture itself: what its owner could state.
    """

    def _observe(self, sample: Sample, split: str, draw: int) -> Observation:
        clean = np.asarray(sample["image"], dtype=np.float64)
        test = self.spec.observe["test"]
        shot = camera(test["camera"]).exposure(float(test["iso"]))
        amplification = float(self.keyed(split, sample.sample_id, draw, "level").uniform(*test["amplification"]))
        noisy = shot.expose(pack(mosaic(clean)), amplification, self.keyed(split, sample.sample_id, draw, "noise"))
        span = (shot.white - shot.black) / amplification
        level = float(np.sqrt(shot.gain * max(float(noisy.mean()), 0.0) * span + shot.read_noise**2) / span)
        given = {"degraded": tensor(sparse(unpack(noisy))), "noise_level": level}
        return Observation(sample.sample_id, sample.cluster, given=given, target={"clean": tensor(clean)})
