"""Pictures and sounds of the site: each written once, as a file named by its content."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape

from ..gallery import Figure, Strip

_ENDINGS = {"data:image/png": "png", "data:audio/wav": "wav"}


class Media:
    """The files of ``media/``, by name."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def put(self, uri: str) -> str:
        """Keep a data URI's content; return its path in the site."""
        head, _, body = uri.partition(";base64,")
        content = base64.b64decode(body)
        name = f"media/{hashlib.sha256(content).hexdigest()[:20]}.{_ENDINGS[head]}"
        self.files[name] = content
        return name

    def figure(self, f: Figure, kind: str, up: str) -> str:
        """Return one picture with its caption and, for sound, its player."""
        w, h = f.size
        small = kind == "image" and max(w, h) <= 128
        shown = 168 if kind == "image" else 0
        size = f' width="{shown}" height="{round(shown * h / w)}"' if shown else f' width="{w * max(1, 290 // w)}"'
        if kind == "label":
            size = ' width="64" height="64"'
        if kind == "audio":
            size = ' width="264" height="106"'
        crisp = ' class="crisp"' if small or kind in ("label", "set") else ""
        alt = f"{f.title} {f.caption}".strip() + (" spectrogram" if f.audio else "")
        parts = f'<button type="button" class="enlarge" aria-label="enlarge {escape(alt)}">'
        parts += f'<img src="{up}{self.put(f.image)}" alt="{escape(alt)}"{size}{crisp} loading="lazy"></button>'
        if f.audio:
            parts += f'<audio controls preload="none" src="{up}{self.put(f.audio)}"></audio>'
        good = "" if f.good is None else " right" if f.good else " wrong"
        return f'<figure class="{good.strip()}">{parts}<figcaption>{escape(f.title)}<span>{escape(f.caption)}</span></figcaption></figure>'

    def strips(self, strips: Sequence[Strip], up: str) -> str:
        """Return strips of figures side by side."""
        out = []
        for strip in strips:
            why = f' <span class="why">{escape(strip.reason)}</span>' if strip.reason else ""
            figures = "".join(self.figure(f, strip.kind, up) for f in strip.figures)
            out.append(f'<div class="strip {strip.kind}"><p>{escape(strip.title)}{why}</p><div class="figures">{figures}</div></div>')
        return "".join(out)
