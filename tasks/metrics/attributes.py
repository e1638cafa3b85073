"""Does a generated scene show what was asked for? Read back from its pixels by `datasets.shapes_reader`, attribute by attribute."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ...configs.errors import RunError
from ...datasets.shapes_captions import ABSENT, ATTRIBUTES, attributes
from ...datasets.shapes_reader import read
from .base import Metric, check, signed

READER = "shapes-reader@1"
"""Name and version of the reading; raise the version when `datasets.shapes_reader` reads any picture differently."""


def agreement(name: str, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (asked, right), bool (B, attributes): which attributes were asked for, and which of these the pictures show.

    ``target`` holds ``attributes`` (of a caption), or ``label`` (B,), which asks for the kind of the main object alone.
    """
    check(name, answer, rank=4)
    if "attributes" in target:
        asked = target["attributes"].cpu()
    elif "label" in target:
        asked = torch.full((len(answer), len(ATTRIBUTES)), ABSENT)
        asked[:, ATTRIBUTES.index("kind")] = target["label"].cpu()
    else:
        raise RunError(f"metric {name} needs a task that asks for a caption or a label of shapes.", "wrong-output")
    if tuple(answer.shape[1:]) != (3, 32, 32):
        raise RunError(f"metric {name} reads scenes of shape (3, 32, 32), not {tuple(answer.shape[1:])}.", "wrong-output")
    shown = torch.tensor([attributes(read(picture).scene) for picture in answer.detach().cpu().numpy()])
    return asked != ABSENT, (asked != ABSENT) & (asked == shown)


class AttributeAccuracy(Metric):
    """Share of the attributes asked for that the picture shows."""

    name = "attribute-accuracy"
    title = "Share of the attributes asked for that are shown"
    level = "sample"
    higher_is_better = True
    bounds = (0.0, 1.0)
    protocol = """The picture is read back by the shapes reader (nearest colours, least-squares fit of each object's kind, size and place). A
        caption asks for the background, the number of objects, kind, colour and size of each, and how two lie to each other; a label asks for
        the kind of the largest object. The value is the share of what was asked that is read; the largest object read is compared with the
        largest asked for. The reader is exact on every clean scene."""

    def identity(self) -> str:
        return signed(self.name, READER)

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        asked, right = agreement(self.name, answer, target)
        return right.double().sum(1) / asked.double().sum(1)


class CaptionMatch(Metric):
    """1 where every attribute asked for is shown."""

    name = "caption-match"
    title = "Share of pictures that show everything asked for"
    level = "sample"
    higher_is_better = True
    bounds = (0.0, 1.0)
    protocol = """1 if every attribute that the caption (or label) asks for is read from the picture, else 0; attributes and reading as for
        attribute-accuracy."""

    def identity(self) -> str:
        return signed(self.name, READER)

    def per_sample(self, answer: torch.Tensor, target: Mapping[str, torch.Tensor]) -> torch.Tensor:
        asked, right = agreement(self.name, answer, target)
        return (right == asked).all(1).double()
