"""What other processes record while a run goes on is seen at the next look, without reading the ledger again."""

from __future__ import annotations

import json
from pathlib import Path

from scorebench.harness import done
from scorebench.harness.done import Others


def line(unit: str, status: str = "ok", **more: object) -> bytes:
    return json.dumps({"unit_id": unit, "environment_key": "e", "status": status, **more}).encode() + b"\n"


def test_only_what_was_appended_since_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(line("before"))
    others = Others(tmp_path)
    assert others.look(set()) == set()
    with (tmp_path / "a.jsonl").open("ab") as f:
        f.write(line("one") + line("bad", "failed") + line("part", partial=True) + b"garbage\n" + line("two")[:20])
    (tmp_path / "b.jsonl").write_bytes(line("new"))
    (tmp_path / "c.jsonl").write_bytes(line("mine"))
    assert others.look({"c.jsonl"}) == {("one", "e"), ("new", "e")}
    with (tmp_path / "a.jsonl").open("ab") as f:
        f.write(line("two")[20:])
    assert ("two", "e") in others.look({"c.jsonl"})


def test_a_costly_listing_is_not_repeated_at_once(tmp_path: Path, monkeypatch) -> None:
    others = Others(tmp_path)
    monkeypatch.setattr(done, "QUICK", 0.0)
    others.look(set())
    others._next += 3600
    (tmp_path / "b.jsonl").write_bytes(line("new"))
    assert others.look(set()) == set()
    others._next = 0.0
    assert others.look(set()) == {("new", "e")}
