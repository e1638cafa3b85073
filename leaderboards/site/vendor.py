"""Scripts of others, taken from the installed wheels when a site is built: plotly's plots and, from itables, DataTables' tables.

Pages opened from disk may load classic scripts only (browsers refuse modules from ``file:``), so the tables' module is given a classic
form: its ``export`` is replaced by one global name. Where a wheel is missing or looks otherwise, the site goes without, and says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution

_EXPORT = re.compile(r"export\s*\{([^{}]*)\}\s*;?")
REMEDY = "python -m pip install plotly itables"


@dataclass
class Scripts:
    """Files for the site's ``assets`` folder, by name; ``missing`` says what the pages go without."""

    files: dict[str, bytes] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def plots(self) -> bool:
        return "plotly.min.js" in self.files

    @property
    def tables(self) -> bool:
        return "datatables.js" in self.files


def scripts() -> Scripts:
    """Return the scripts of the installed wheels."""
    out = Scripts()
    for wheel, ending, name, what in (
        ("plotly", "plotly/package_data/plotly.min.js", "plotly.min.js", "plots"),
        ("itables", "itables/html/dt_bundle.js", "datatables.js", "sortable, filterable tables"),
    ):
        content = _read(wheel, ending)
        if content is not None and name == "datatables.js":
            content = _classic(content)
        if content is None:
            out.missing.append(f"{what} ({wheel})")
            continue
        out.files[name] = content
        out.versions[wheel] = distribution(wheel).version
        if licence := _licence(wheel):
            out.files[f"{wheel}-LICENSE.txt"] = licence
    return out


def _read(wheel: str, ending: str) -> bytes | None:
    try:
        files = distribution(wheel).files or []
        found = next((f for f in files if f.as_posix() == ending), None)
        return None if found is None else found.read_binary()
    except (PackageNotFoundError, OSError):
        return None


def _licence(wheel: str) -> bytes | None:
    files = distribution(wheel).files or []
    found = next((f for f in files if "dist-info" in f.as_posix() and f.name.upper().startswith(("LICENSE", "LICENCE"))), None)
    try:
        return None if found is None else found.read_binary()
    except OSError:
        return None


def _classic(module: bytes) -> bytes | None:
    """Return the module as a classic script that sets ``window.scorebenchTables = {jQuery}``; None when it exports no jQuery."""
    text = module.decode("utf-8")
    for found in reversed(list(_EXPORT.finditer(text))):
        names = dict(re.findall(r"([\w$]+)\s+as\s+([\w$]+)", found.group(1)))
        jquery = next((local for local, public in names.items() if public == "jQuery"), None)
        if jquery is None:
            continue
        body = text[: found.start()] + f"window.scorebenchTables={{jQuery:{jquery}}};" + text[found.end() :]
        return f'(function(){{"use strict";{body}\n}})();\n'.encode()
    return None
