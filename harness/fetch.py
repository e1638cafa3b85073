"""Downloads, only ever on request: one file, checked against its sha256, put in place whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from ..configs.errors import RequestError, ScorebenchError

TIMEOUT = 30.0
"""Seconds without an answer after which a download is given up."""

Progress = Callable[[int, int], None]
"""Bytes so far, and bytes in all (0 where the server does not say)."""


class FetchError(ScorebenchError):
    """A download did not succeed (exit code 1): the network or the server, not the request."""


def fetch(url: str, path: Path, sha256: str, progress: Progress | None = None) -> Path:
    """Download ``url`` to ``path`` and return it; ``sha256`` may be the first digits only.

    Raises FetchError when there is no network, the server refuses, or what came is another file; RequestError when ``path`` cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    by_hand = f"download {url} elsewhere and put it at {path}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        found = _download(url, temporary, progress, by_hand)
        if not found.startswith(sha256):
            raise FetchError(f"{url} answered with another file (sha256 {found[:16]}..., expected {sha256[:16]}...); nothing was kept.")
        temporary.replace(path)
    except OSError as e:
        raise RequestError(f"{path} cannot be written ({e.strerror}); set SCOREBENCH_HOME to a folder you can write to.") from None
    finally:
        if temporary.exists():
            temporary.unlink()
    return path


def _download(url: str, temporary: Path, progress: Progress | None, by_hand: str) -> str:
    digest, done = hashlib.sha256(), 0
    with temporary.open("wb") as out:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
                total = int(response.headers.get("Content-Length") or 0)
                while block := response.read(1 << 20):
                    out.write(block)
                    digest.update(block)
                    done += len(block)
                    if progress:
                        progress(done, total)
        except urllib.error.HTTPError as e:
            raise FetchError(f"{url} was refused ({e.code} {e.reason}); {by_hand}.") from None
        except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as e:
            reason = " ".join(str(getattr(e, "reason", e)).split()) or type(e).__name__
            raise FetchError(f"{url} cannot be reached ({reason}); on a machine without network, {by_hand}.") from None
        if total and done < total:
            raise FetchError(f"{url} broke off after {done} of {total} bytes; run the same command again, or {by_hand}.")
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()
