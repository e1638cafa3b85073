"""Trains the tiny vision transformer of the feature tasks: ``python -m scorebench.tasks.train_vit --out FILE``.

A classifier on random crops and mirror images of the shapes training split: every token tells how much of it is background and each kind of
object, the mean token tells colour of the main object and background. One thread and one seed, so that the same command under the
same versions writes the same bytes. Weights of two or more dimensions are stored as float16; the accuracies that are printed and
stored are those of the stored weights on whole pictures (tokens, tokens of objects, colour, background).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from ..configs.loader import write_atomic
from ..datasets import registry as datasets
from ..datasets.shapes import BACKGROUNDS, COLOURS, KINDS, Scene, masks
from .randomness import keyed
from .vit import PATCH, WIDTH, ViT, crops, cut

SEED, STEPS, BATCH, LR = 0, 1200, 64, 2e-3
SCALE = (0.3, 1.0)
"""Share of the picture that a training crop shows."""
CLASSES, HEADS = 1 + len(KINDS), (len(COLOURS), len(BACKGROUNDS))


def load(split: str, limit: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return pictures (N, 3, 32, 32), the class of every pixel (N, 32, 32), and labels (N, 2): the main object's colour, the background."""
    dataset = datasets.get("shapes")
    samples = [dataset.sample(split, i) for i in dataset.ids(split)[:limit]]
    scenes: list[Scene] = [s["scene"] for s in samples]
    shown = [np.array([0, *(1 + KINDS.index(t.kind) for t in s.things)])[masks(s)] for s in scenes]
    labels = [(list(COLOURS).index(s.things[0].colour), list(BACKGROUNDS).index(s.background)) for s in scenes]
    return torch.stack([torch.as_tensor(s["image"]) for s in samples]), torch.from_numpy(np.stack(shown)), torch.tensor(labels)


def shares(pixels: Tensor) -> Tensor:
    """Return how much of every token is of each class, (N, 64, 5), from soft classes of pixels (N, 5, 32, 32)."""
    return F.avg_pool2d(pixels, PATCH).flatten(2).transpose(1, 2)


class Classifier(nn.Module):
    """Linear heads on every token and on the mean token."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.dense, self.head = ViT(), nn.Linear(WIDTH, CLASSES), nn.Linear(WIDTH, sum(HEADS))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        tokens = self.body(x)
        return self.dense(tokens), *self.head(tokens.mean(1)).split(HEADS, 1)


def train(steps: int = STEPS) -> tuple[ViT, dict[str, object]]:
    """Return the trained network, rounded as it is stored, and what is known about it."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    pictures, shown, labels = load("train")
    net = Classifier()
    optimiser = torch.optim.AdamW(net.parameters(), lr=LR, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR, total_steps=steps, pct_start=0.1)
    start, losses = time.process_time(), []
    for step in range(steps):
        rng = keyed("shapes-vit", SEED, step)
        pick = torch.from_numpy(rng.integers(0, len(pictures), BATCH))
        one_hot = F.one_hot(shown[pick], CLASSES).permute(0, 3, 1, 2)
        crop = cut(torch.cat([pictures[pick].double(), one_hot.double()], 1), crops(rng, BATCH, SCALE)).float()
        dense, *heads = net(crop[:, :3])
        loss = F.cross_entropy(dense.flatten(0, 1), shares(crop[:, 3:]).flatten(0, 1))
        loss = loss + 0.1 * torch.stack([F.cross_entropy(h, y) for h, y in zip(heads, labels[pick].T, strict=True)]).sum()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}: loss {np.mean(losses[-100:]):.3f}, {time.process_time() - start:.0f} s", flush=True)
    net.eval()
    net.load_state_dict({k: v.half().float() if v.ndim > 1 else v for k, v in net.state_dict().items()})
    facts: dict[str, object] = {
        "dataset": "shapes", "split": "train", "train_images": len(pictures), "seed": SEED, "steps": steps, "batch": BATCH, "lr": LR,
        "crops": list(SCALE),
    }  # fmt: skip
    for split in ("dev", "test"):
        x, pixels, y = load(split, 1000)
        with torch.no_grad():
            dense, *heads = (torch.cat(v) for v in zip(*map(net, x.split(250)), strict=True))
        token = shares(F.one_hot(pixels, CLASSES).permute(0, 3, 1, 2).float()).argmax(-1)
        right = [(dense.argmax(-1) == token), (dense.argmax(-1) == token)[token > 0]]
        right += [h.argmax(1) == t for h, t in zip(heads, y.T, strict=True)]
        facts[f"accuracy_{split}"] = [round(float(r.double().mean()), 4) for r in right]
    return net.body, facts


def main(argv: Sequence[str] | None = None) -> None:
    """Train the network and write it."""
    parser = argparse.ArgumentParser(prog="python -m scorebench.tasks.train_vit", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args(argv)
    net, facts = train(args.steps)
    state = {k: (v.half() if v.ndim > 1 else v).contiguous() for k, v in net.state_dict().items()}
    # one metadata key: the order of several is not fixed
    write_atomic(args.out, save(state, metadata={"facts": json.dumps(facts, sort_keys=True)}))
    print(json.dumps(facts, sort_keys=True))


if __name__ == "__main__":
    main()
