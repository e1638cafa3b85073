"""How the tests of the command line call it: in this process (quick), or as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from scorebench.harness.cli.main import cli


def call(*words: str, env: dict[str, str] | None = None) -> Result:
    """Run one command line in this process."""
    return CliRunner().invoke(cli, list(words), prog_name="scorebench", env=env)


def good(*words: str) -> str:
    """Run a command line that must succeed; return what it printed."""
    result = call(*words)
    assert result.exit_code == 0, (words, result.exit_code, result.output, result.exception)
    return result.stdout


def data(*words: str) -> Any:
    """Run a command line that must succeed, and parse what it printed as JSON."""
    return json.loads(good(*words, "--json"))


def wrong(*words: str, code: int = 2) -> str:
    """Run a command line that must be refused in one sentence without a traceback; return the sentence."""
    result = call(*words)
    lines = result.stderr.strip().splitlines()
    assert result.exit_code == code, (words, result.exit_code, result.output, result.exception)
    assert len(lines) == 1, (words, lines)
    assert "Traceback" not in result.output
    return lines[0]


def process(*words: str, cwd: Path | None = None, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    """Run one command line as a child process."""
    done = subprocess.run(
        [sys.executable, "-m", "scorebench", *words], capture_output=True, text=True, cwd=cwd, env={**os.environ, **env}, timeout=240
    )
    assert not check or done.returncode == 0, (words, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    return done
