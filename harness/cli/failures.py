"""What the command line says when something goes wrong, and the exit codes that go with it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import click

INTERRUPTED = 130
PIPE_CLOSED = 141
"""As for any program that SIGPIPE ends: ``scorebench list methods | head -1``."""


def sentence(text: str) -> str:
    """Return ``text`` on one line, ending in a full stop (or in its own question or exclamation mark)."""
    line = " ".join(text.split())
    return line if line.endswith((".", "?", "!", "`")) else line + "."


def interrupted() -> int:
    """Say that everything recorded so far is kept, and return the exit code of an interrupted program."""
    click.echo("interrupted; the same command resumes", err=True)
    return INTERRUPTED


def broken_pipe() -> int:
    """Whoever read our output is gone: send what is still buffered nowhere, so that Python does not complain on exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - stays open until the process ends
    return PIPE_CLOSED


def report_unexpected(error: Exception, words: list[str]) -> int:
    """Write the traceback of a defect to a log file and say in one sentence where it is; return exit code 1."""
    import traceback

    content = f"scorebench {' '.join(words)}\n{time.strftime('%Y-%m-%dT%H:%M:%S%z')}\n\n{''.join(traceback.format_exception(error))}"
    try:
        log = _write_log(content)
        where = f"the traceback is in {log}"
    except OSError as e:
        where = f"no log could be written ({e.strerror}), --debug shows the traceback"
    reason = sentence(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    click.echo(f"Unexpected error: {reason.rstrip('.')}; {where}.", err=True)
    return 1


def _write_log(content: str) -> Path:
    from ...configs.loader import home

    name = f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    try:
        folder = home() / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_text(content, encoding="utf-8")
    except OSError:  # a read-only home
        import tempfile

        path = Path(tempfile.mkdtemp(prefix="scorebench-")) / name
        path.write_text(content, encoding="utf-8")
    return path
