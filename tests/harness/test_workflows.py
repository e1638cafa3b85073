"""The GitHub workflows: they parse, and the commands and options they call exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from scorebench.harness.cli.main import COMMANDS, cli

FOLDER = Path(__file__).resolve().parents[2] / ".github" / "workflows"


def steps(name: str) -> list[dict]:
    document = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    assert set(document) >= {"name", "jobs", "permissions"} and True in document  # YAML reads the key "on" as a truth value
    return [step for job in document["jobs"].values() for step in job["steps"]]


def test_every_command_of_the_workflows_exists_with_its_options() -> None:
    called = 0
    for file in sorted(FOLDER.glob("*.yml")):
        for step in steps(file.name):
            for line in re.findall(r"scorebench (?:nightly|publish|run|suite|accept)[^\n;|]*", step.get("run", "")):
                words = line.split()[1:]
                assert words[0] in COMMANDS
                command = cli.get_command(None, words[0])
                assert command is not None
                known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
                assert {w for w in words if w.startswith("--")} <= known, line
                called += 1
    assert called >= 2


@pytest.mark.parametrize("name", ["ci.yml", "nightly.yml"])
def test_actions_are_pinned_to_a_version_and_rights_are_small(name: str) -> None:
    uses = [step["uses"] for step in steps(name) if "uses" in step]
    assert uses and all(re.fullmatch(r"actions/[\w-]+@v\d+", u) for u in uses)
    assert yaml.safe_load((FOLDER / name).read_text())["permissions"] == {"contents": "read"}
