"""Captions of `shapes` scenes as numbers: word tokens for networks, attributes for scoring what a generated picture shows."""

from __future__ import annotations

from ..configs.errors import RequestError
from .shapes import BACKGROUNDS, COLOURS, KINDS, RELATIONS, SIZES, WORDS, Scene

PAD = len(WORDS)
"""The token after a caption's last word; the index of a word is its place in `WORDS`."""
TOKENS = len(WORDS) + 1
"""How many different tokens there are."""
LENGTH = 16
"""Words of the longest caption: two objects of four words, a relation of up to four, four words of background."""
ATTRIBUTES = ("background", "count", "kind", "colour", "size", "relation", "kind 2", "colour 2", "size 2")
"""What a caption says of a scene: of the larger object (the main one), then of the smaller."""
ABSENT = -1
"""The value of an attribute that a caption does not mention."""


def tokens(caption: str) -> list[int]:
    """Return a caption's words as `LENGTH` token indices, padded with `PAD`; RequestError for a word or a length that captions do not have."""
    words = caption.split()
    strange = [w for w in words if w not in WORDS]
    if strange or not 0 < len(words) <= LENGTH:
        wrong = f"has the unknown word {strange[0]!r}" if strange else f"has {len(words)} words"
        raise RequestError(f"the caption {caption!r} {wrong}; captions of shapes have 1 to {LENGTH} words out of: {', '.join(WORDS)}.")
    return [WORDS.index(w) for w in words] + [PAD] * (LENGTH - len(words))


def attributes(scene: Scene) -> list[int]:
    """Return a scene's `ATTRIBUTES` as indices; `ABSENT` for what is not there (the second object of one, ...)."""
    out = [list(BACKGROUNDS).index(scene.background), len(scene.things)]
    looks = [[KINDS.index(t.kind), list(COLOURS).index(t.colour), list(SIZES).index(t.size)] for t in scene.things[:2]]
    looks += [[ABSENT] * 3] * (2 - len(looks))
    side = scene.relation()
    return [*out, *looks[0], ABSENT if side is None else list(RELATIONS).index(side), *looks[1]]
