"""Write the site: pages, data, pictures, and the scripts of the installed wheels, into one folder that opens from disk."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from ...configs.errors import RequestError
from ...configs.loader import write_atomic
from ..assets import STYLE
from ..board import Board, telling
from ..html import family_order
from ..render_csv import render as as_csv
from ..render_json import board_data
from . import overview
from .media import Media
from .method import method_page
from .shell import Names, Site
from .task import task_page
from .vendor import scripts

HERE = Path(__file__).resolve().parent
MANIFEST = "scorebench-site.json"


@dataclass
class Written:
    """What was written: the folder, how many pages, and what the site goes without."""

    folder: Path
    pages: int
    missing: list[str] = field(default_factory=list)


def write_site(
    boards: Sequence[Board],
    out: Path,
    *,
    cards: Mapping[str, Mapping[str, Any]] | None = None,
    claims: Sequence[Mapping[str, Any]] = (),
    tables: Sequence[Mapping[str, Any]] = (),
    title: str = "scorebench",
    facts: Mapping[str, Any] | None = None,
    hide: Mapping[str, str] | None = None,
) -> Written:
    """Write the site of ``boards`` into the folder ``out``, replacing a site that stands there.

    ``cards``: methods by id (fields of a card, and ``families`` and ``bibtex``). ``claims``: as `evidence.evaluate` returns them. ``tables``:
    paper tables with id, title, paper and results (as `reproduce.Result.data`). ``facts``: for the footer, label to text. ``hide``: folders
    of this machine, and what stands for them on pages. RequestError when the folder holds something else, or cannot be written.
    """
    boards, old = telling(boards), _previous(out)
    pairs = [(b, board_data(b)) for b in boards]
    cards = cards or {}
    used, found = {r["method"] for _, d in pairs for r in d["rows"]}, scripts()
    families = sorted(dict.fromkeys(d["family"] for _, d in pairs), key=family_order)
    about = " · ".join(f"{escape(str(k))} {escape(str(v))}" for k, v in (facts or {}).items())
    site = Site(title, found, Names(), families, about, bool(tables), bool(claims), frozenset(used | set(cards)))
    media, files = Media(), dict[str, bytes]()
    for b, d in pairs:
        path = site.names.page("tasks", overview.board_name(b))
        siblings = [(x.budget, site.names.page("tasks", overview.board_name(x))) for x in boards if (x.task, x.split) == (b.task, b.split)]
        files[path] = task_page(site, b, d, siblings, media, path).encode()
        files[path.removesuffix(".html") + ".json"] = json.dumps(d, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        files[path.removesuffix(".html") + ".csv"] = as_csv([b]).encode()
    for name in sorted(site.methods):
        path = site.names.page("methods", name)
        own = [c for c in claims if c["method"] == name]
        files[path] = method_page(site, name, cards.get(name) or {}, pairs, own, media, path).encode()
    files["index.html"] = overview.overview(site, pairs).encode()
    files["methods.html"] = overview.methods_page(site, cards, pairs, claims).encode()
    if claims:
        files["claims.html"] = overview.claims_page(site, claims).encode()
    if tables:
        files["tables.html"] = overview.tables_page(site, tables).encode()
    for folder, name in (hide or {}).items():
        pattern = re.compile(re.escape(folder.encode()) + rb"(?![\w-])")
        files = {path: pattern.sub(name.encode(), content) for path, content in files.items()}
    files |= {f"assets/{name}": content for name, content in found.files.items()} | media.files
    files["assets/site.css"] = STYLE.encode() + (HERE / "site.css").read_bytes()
    files["assets/site.js"] = (HERE / "site.js").read_bytes()
    _write(out, files, old, found.versions)
    return Written(out, sum(name.endswith(".html") for name in files), found.missing)


def _previous(out: Path) -> list[str]:
    """Return the files of the site that stands in ``out``; RequestError when the folder holds something else."""
    if not out.exists():
        return []
    if not out.is_dir():
        raise RequestError(f"{out} is a file; give --out a folder for the site, or a name that ends in .html for one page.")
    try:
        return [str(name) for name in json.loads((out / MANIFEST).read_text())["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        if any(out.iterdir()):
            raise RequestError(f"The folder {out} holds other things and no site; give --out a new or an empty folder.") from None
        return []


def _write(out: Path, files: Mapping[str, bytes], old: Sequence[str], versions: Mapping[str, str]) -> None:
    try:
        for name, content in files.items():
            path = out / name
            if not path.is_file() or path.stat().st_size != len(content) or path.read_bytes() != content:
                write_atomic(path, content)
        manifest = {"made by": "scorebench", "scripts": dict(versions), "files": sorted(files)}
        write_atomic(out / MANIFEST, json.dumps(manifest, indent=1).encode())
        root = out.resolve()
        for name in set(old) - set(files):  # pages of what is no longer there
            path = (out / name).resolve()
            if path.is_relative_to(root) and path.suffix in (".html", ".json", ".csv", ".png", ".wav", ".js", ".css", ".txt"):
                path.unlink(missing_ok=True)
    except OSError as e:
        raise RequestError(f"The site cannot be written to {out} ({e.strerror}); give --out a folder you can write to.") from None
