"""Denoising of feature maps: what a frozen vision transformer says of a scene, with an artefact that depends on the place in the token grid.

The network is `tasks.vit`. Beside the map of the whole picture a method is given those of random views of it, with the places in the picture
that their tokens show, which is what Denoising Vision Transformers (arXiv:2401.02957) learns from.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from ..configs.errors import RequestError
from ..datasets import registry as datasets
from ..datasets.base import Sample
from ..datasets.shapes import KINDS, Scene, masks
from . import vit
from .base import Observation, Task, one_thread
from .randomness import keyed
from .requests import Request
from .training_data import Item

if TYPE_CHECKING:
    from .spec import TaskSpec


@lru_cache(maxsize=2)
def artefact(amplitude: float) -> Tensor:
    """Return G*, float32 (64, 8, 8): every channel has mean zero over the grid and root mean square ``amplitude``.

    Half of the power is smooth (four low cosines), half differs from token to token. There is one artefact for all scenes and splits: it is
    the network's, not the picture's.
    """
    rng = keyed("vit-artefact", vit.WIDTH, vit.GRID)
    one, t = np.ones(vit.GRID), (np.arange(vit.GRID) + 0.5) / vit.GRID
    wave = np.cos(np.pi * t)
    waves = np.stack([np.outer(wave, one), np.outer(one, wave), np.outer(wave, wave), np.outer(np.cos(2 * np.pi * t), one)])
    smooth = unit(np.einsum("ck,kij->cij", rng.standard_normal((vit.WIDTH, len(waves))), waves))
    rough = unit(rng.standard_normal((vit.WIDTH, vit.GRID, vit.GRID)))
    return torch.from_numpy(amplitude * unit(smooth + rough)).float()


def unit(maps: np.ndarray) -> np.ndarray:
    """Return maps (C, H, W) shifted and scaled to mean 0 and root mean square 1 in each channel."""
    centred = maps - maps.mean((1, 2), keepdims=True)
    return centred / np.sqrt(np.square(centred).mean((1, 2), keepdims=True))


def classes(scene: Scene) -> np.ndarray:
    """Return what each token shows most of, int64 (8, 8): 0 the background, 1 + index in `KINDS` an object (ties: the lowest)."""
    kinds = np.array([0, *(1 + KINDS.index(t.kind) for t in scene.things)])[masks(scene)]
    cells = kinds.reshape(vit.GRID, vit.PATCH, vit.GRID, vit.PATCH).transpose(0, 2, 1, 3).reshape(vit.GRID, vit.GRID, -1)
    return (cells[..., None] == np.arange(1 + len(KINDS))).sum(2).argmax(-1)


@lru_cache(maxsize=8)
def seen(dataset: str, split: str, sample_id: str, views: int, scale: tuple[float, float], *key: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return the map of a picture (64, 8, 8), those of ``views`` random crops (N, 64, 8, 8), and what places they show (N, 2, 8, 8)."""
    picture = torch.from_numpy(datasets.get(dataset).sample(split, sample_id)["image"])
    boxes = np.concatenate([vit.crops(keyed("vit-views", *key), views, scale), vit.WHOLE])
    with one_thread():
        maps = vit.features(vit.cut(picture.expand(len(boxes), -1, -1, -1), boxes))
    return maps[-1], maps[:-1], vit.places(boxes)[:-1].float()


class FeatureTask(Task):
    """Gives ``noisy`` float32 (64, 8, 8), ``views`` (N, 64, 8, 8) and ``places`` (N, 2, 8, 8); asks for the map without the artefact.

    ``observe`` and ``train``: ``{views: N, scale: [a, b], amplitude: r}``: the number of crops, the share of the picture they show, and the
    root mean square of the planted artefact, which is added to every map by the token's place in its grid. *Clean* means the network's own map
    of the whole picture, rounded, without what was planted; artefacts of the network's own are part of it. With amplitude 0 nothing is
    planted, and only the probe judges. Metrics see maps as (64 channels, 64 places); targets: ``clean`` and ``noisy``, and ``classes`` (64).

    ``train: {scenes: n}``: that many training scenes, the same for all methods; their views depend on the seed.
    """

    def __init__(self, spec: TaskSpec) -> None:
        super().__init__(spec)
        for block in (spec.observe, spec.train or {}):
            missing = [k for k in ("views", "scale", "amplitude") if k not in block]
            if missing:
                raise RequestError(f"task {self.id}: {missing[0]!r} is missing; observe and train take views, scale and amplitude.")

    def _observe(self, sample: Sample, split: str, draw: int) -> Observation:
        key = (self.id, self.version, split, sample.sample_id, draw)
        how = self.spec.observe
        clean, noisy, views, places = planted(how, self.spec.dataset, self.spec.splits[split], sample.sample_id, *key)
        target = {"classes": torch.from_numpy(classes(sample["scene"])).flatten()}
        if how["amplitude"]:
            target |= {"clean": clean.flatten(1), "noisy": noisy.flatten(1)}
        return Observation(sample.sample_id, sample.cluster, given={"noisy": noisy, "views": views, "places": places}, target=target)

    def accept(self, answer: Any, request: Request, observations: Sequence[Observation]) -> Tensor:
        """Check the answer and lay its tokens in a row: (B, 64, 64)."""
        return super().accept(answer, request, observations).flatten(2)

    def training_set(self, trains_on: str, seed: int) -> TorchDataset:
        """Return the training scenes, ``noisy``: ``input`` is the map of the whole picture; ``views`` and ``places`` as at test time."""
        if trains_on != "noisy":
            raise RequestError(f"task {self.id} offers training items that are noisy, not {trains_on!r}.")
        return Scenes(dict(self.spec.train or {}), self.spec.dataset, seed)

    def training_key(self, trains_on: str) -> dict[str, Any]:
        return super().training_key(trains_on) | {"network": vit.SHA256}


def planted(how: Any, dataset: str, split: str, sample_id: str, *key: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the clean map, the map and the maps of the views with the artefact on them, and the places of the views."""
    clean, views, places = seen(dataset, split, sample_id, int(how["views"]), tuple(how["scale"]), *key)
    g = artefact(float(how["amplitude"]))
    return clean, clean + g, views + g, places


class Scenes(TorchDataset[Item]):
    """Item i: training scene i; a function of (train block, dataset, seed, i)."""

    def __init__(self, how: dict[str, Any], dataset: str, seed: int) -> None:
        self.how, self.dataset, self.seed = how, dataset, seed
        self.ids = datasets.get(dataset).ids(str(how.get("split", "train")))[: int(how["scenes"])]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Item:
        split = str(self.how.get("split", "train"))
        _, noisy, views, places = planted(self.how, self.dataset, split, self.ids[index], "training", self.seed, self.ids[index])
        return {"input": noisy, "views": views, "places": places}
