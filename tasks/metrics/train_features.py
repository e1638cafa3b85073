"""Trains the small feature networks of fd-digits and fd-shapes: ``python -m scorebench.tasks.metrics.train_features digits --out FILE``.

A classifier of the dataset's labels (of scenes, of every attribute of the main object), on its train split only, with small shifts and
noise as augmentation. One thread and one seed, so that the same command under the same versions writes the same bytes. Weights of two or
more dimensions are stored as float16, and the accuracy that is printed and stored is that of the stored weights."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch.nn import functional

from ...configs.loader import write_atomic
from ...datasets import registry as datasets
from ...datasets.base import Sample
from ...datasets.shapes import BACKGROUNDS, COLOURS, KINDS, SIZES, Scene
from .extractors import SHAPES, SmallNet

SEED = 20240


@dataclass(frozen=True)
class Recipe:
    """How one network is trained."""

    steps: int
    batch: int
    lr: float
    noise: float
    shift: int
    width: int


RECIPES = {
    "digits": Recipe(steps=1500, batch=128, lr=2e-3, noise=0.1, shift=1, width=32),
    "shapes": Recipe(steps=6000, batch=64, lr=2e-3, noise=0.03, shift=0, width=48),  # position is an attribute, so nothing is shifted
}
HEADS = {"digits": [10], "shapes": [len(KINDS), len(COLOURS), len(SIZES), len(BACKGROUNDS), 2, 4, 4]}
"""Number of classes of each attribute that a network is trained to tell."""


def attributes(name: str, sample: Sample) -> list[int]:
    """Return what the network is to tell of one sample: the digit; of a scene, all the main object is, and the number of objects."""
    if name != "shapes":
        return [int(sample["label"])]
    scene: Scene = sample["scene"]
    main = scene.things[0]
    looks = [KINDS.index(main.kind), list(COLOURS).index(main.colour), list(SIZES).index(main.size), list(BACKGROUNDS).index(scene.background)]
    return [*looks, len(scene.things) - 1, main.x // 8, main.y // 8]


def load(name: str, split: str, limit: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images (N, C, H, W) and attributes (N, H) of a dataset split, in order."""
    dataset = datasets.get(name)
    samples = [dataset.sample(split, i) for i in dataset.ids(split)[:limit]]
    return torch.stack([torch.as_tensor(s["image"]) for s in samples]), torch.tensor([attributes(name, s) for s in samples])


def augment(images: torch.Tensor, noise: float, shift: int, generator: torch.Generator) -> torch.Tensor:
    """Shift every image by up to ``shift`` pixels (zeros come in) and add Gaussian noise of a random level up to ``noise``."""
    b, _, h, w = images.shape
    padded = functional.pad(images, (shift,) * 4)
    offsets = torch.randint(0, 2 * shift + 1, (b, 2), generator=generator).tolist()
    moved = torch.stack([p[:, y : y + h, x : x + w] for p, (y, x) in zip(padded, offsets, strict=True)])
    level = noise * torch.rand(b, 1, 1, 1, generator=generator)
    return moved + level * torch.randn(moved.shape, generator=generator)


def train(name: str, seed: int = SEED) -> tuple[SmallNet, dict[str, object]]:
    """Return the trained network, rounded as it is stored, and what is known about it (recipe, seed, accuracy on dev and test)."""
    recipe = RECIPES[name]
    channels, side = SHAPES[name]
    heads = HEADS[name]
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    images, labels = load(name, "train")
    net = SmallNet(channels, side, sum(heads), recipe.width)
    optimiser = torch.optim.AdamW(net.parameters(), lr=recipe.lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(recipe.steps):
        pick = torch.randint(0, len(images), (recipe.batch,), generator=generator)
        logits = net(augment(images[pick], recipe.noise, recipe.shift, generator)).split(heads, 1)
        # smoothing keeps the features' scale bounded
        losses = [functional.cross_entropy(h, y, label_smoothing=0.1) for h, y in zip(logits, labels[pick].T, strict=True)]
        loss = torch.stack(losses).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    net.eval()
    net.load_state_dict({k: v.half().float() if v.ndim > 1 else v for k, v in net.state_dict().items()})
    facts: dict[str, object] = {"dataset": name, "split": "train", "train_images": len(images), "seed": seed, **asdict(recipe)}
    for split in ("dev", "test"):
        x, y = load(name, split, 2000)
        with torch.no_grad():
            told = torch.stack([h.argmax(1) for h in net(x).split(heads, 1)], 1)
        facts[f"accuracy_{split}"] = [round(v, 4) for v in (told == y).double().mean(0).tolist()]
    return net, facts


def main(argv: Sequence[str] | None = None) -> None:
    """Train one network and write it."""
    parser = argparse.ArgumentParser(prog="python -m scorebench.tasks.metrics.train_features", description=__doc__)
    parser.add_argument("dataset", choices=sorted(RECIPES))
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args(argv)
    net, facts = train(args.dataset, args.seed)
    state = {k: (v.half() if v.ndim > 1 else v).contiguous() for k, v in net.state_dict().items()}
    # one metadata key: the order of several is not fixed, and the file's hash is part of the metric's identity
    write_atomic(args.out, save(state, metadata={"facts": json.dumps(facts, sort_keys=True)}))
    print(json.dumps(facts, sort_keys=True))


if __name__ == "__main__":
    main()
