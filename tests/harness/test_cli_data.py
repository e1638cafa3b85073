"""`scorebench data` and `scorebench doctor`: what is on this machine, and what is not."""

from __future__ import annotations

import functools
import hashlib
import http.server
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cli_tools import call, data, good, wrong

from scorebench.datasets import registry
from scorebench.harness import artifacts, doctor, fetch
from scorebench.tasks.metrics import weights

CONTENT = bytes(range(256)) * 5000


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SCOREBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SCOREBENCH_DATA", raising=False)
    registry.get.cache_clear()
    yield tmp_path / "home"
    registry.get.cache_clear()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A web server on this machine that offers one file."""
    folder = tmp_path / "www"
    folder.mkdir()
    (folder / "net.pt").write_bytes(CONTENT)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            return

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def offer(monkeypatch: pytest.MonkeyPatch, url: str, sha256: str | None = None) -> weights.WeightFile:
    weight = weights.WeightFile("net", "net.pt", url, sha256 or hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(weights, "WEIGHTS", {"net": weight})
    return weight


def test_fetch_checks_and_keeps(monkeypatch: pytest.MonkeyPatch, server: str, home: Path) -> None:
    weight = offer(monkeypatch, f"{server}/net.pt")
    assert "is not in" in next(r["message"] for r in data("data", "list") if r["id"] == "weights:net")
    assert good("data", "fetch", "weights:net").strip() == str(home / "weights" / "net.pt")
    assert weight.path.read_bytes() == CONTENT
    assert "is here already" in good("data", "fetch", "weights:net")
    assert data("data", "verify", "weights:net")[0]["state"] == "ok"
    assert [p.name for p in weight.path.parent.iterdir()] == ["net.pt"]


def test_fetch_of_another_file_keeps_nothing(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    weight = offer(monkeypatch, f"{server}/net.pt", "0" * 64)
    assert "another file" in wrong("data", "fetch", "weights:net", code=1)
    assert list(weight.path.parent.iterdir()) == []


def test_a_damaged_file_is_fetched_again(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    weight = offer(monkeypatch, f"{server}/net.pt")
    weight.path.parent.mkdir(parents=True)
    weight.path.write_bytes(b"torn")
    result = call("data", "verify", "weights:net")
    assert result.exit_code == 1 and "wrong" in result.stdout
    good("data", "fetch", "weights:net")
    assert weight.path.read_bytes() == CONTENT


def test_fetch_without_network_or_file(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    offer(monkeypatch, f"{server}/gone.pt")
    assert "404" in wrong("data", "fetch", "weights:net", code=1)
    offer(monkeypatch, "http://127.0.0.1:9/net.pt")
    message = wrong("data", "fetch", "weights:net", code=1)
    assert "cannot be reached" in message and "without network" in message and "put it at" in message


def test_a_broken_off_download_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Torn(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[:1000])

        def log_message(self, *args: object) -> None:
            return

    httpd = http.server.HTTPServer(("127.0.0.1", 0), Torn)
    thread = threading.Thread(target=httpd.handle_request, daemon=True)
    thread.start()
    target = tmp_path / "net.pt"
    with pytest.raises(fetch.FetchError, match=r"broke off|cannot be reached"):
        fetch.fetch(f"http://127.0.0.1:{httpd.server_port}/x", target, hashlib.sha256(CONTENT).hexdigest())
    thread.join()
    httpd.server_close()
    assert list(tmp_path.iterdir()) == []


def test_fetch_refuses(home: Path) -> None:
    assert "Unknown weights" in wrong("data", "fetch", "weights:inceptoin")
    assert "does not download datasets" in (message := wrong("data", "fetch", "bsd68")) and "SCOREBENCH_DATA" in message
    assert "is here already" in good("data", "fetch", "digits")
    home.write_text("")
    assert "cannot be written" in wrong("data", "fetch", "weights:alex")


def test_list_says_what_is_here_and_what_to_do() -> None:
    rows = {r["id"]: r for r in data("data", "list")}
    assert set(registry.known()) <= set(rows)
    assert rows["digits"]["state"] == "embedded"
    assert rows["bsd68"]["state"] == "missing" and "bsd68" in rows["bsd68"]["message"]
    text = good("data", "list")
    assert all(i in text for i in rows)


def test_verify_reads_whole_datasets() -> None:
    (row,) = data("data", "verify", "digits")
    assert row["state"] == "ok" and registry.get("digits").fingerprint()[:16] in row["message"]
    assert "bsd68" in wrong("data", "verify", "bsd68")
    assert "Unknown dataset" in wrong("data", "verify", "digts")


def test_verify_notices_a_file_that_changed_under_its_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from PIL import Image

    folder = tmp_path / "mine"
    folder.mkdir()
    for i in range(12):
        Image.new("L", (32, 32), 20 * i).save(folder / f"{i}.png", compress_level=0)
    name = f"folder:{folder}"
    assert data("data", "verify", name)[0]["state"] == "ok"
    stat = (folder / "3.png").stat()
    Image.new("L", (32, 32), 7).save(folder / "3.png", compress_level=0)
    os.utime(folder / "3.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    registry.get.cache_clear()
    result = call("data", "verify", name)
    assert result.exit_code == 1 and "wrong" in result.stdout


def test_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    assert good("data", "path").split()[-1] == str(home / "weights")
    monkeypatch.setenv("SCOREBENCH_DATA", f"{tmp_path}/a:{tmp_path}/b")
    assert good("data", "path").split()[:2] == [f"{tmp_path}/a", f"{tmp_path}/b"]
    assert good("data", "path", "weights:inception").strip().endswith("inception-2015-12-05.pt")
    assert "SCOREBENCH_DATA" in wrong("data", "path", "bsd68")


# ---------------------------------------------------------------------- doctor
def test_doctor_reports_this_machine(tmp_path: Path) -> None:
    checks = data("doctor", "--store", str(tmp_path / "runs"))
    named = {(c["group"], c["name"]): c for c in checks}
    assert named["versions", "torch"]["state"] == "ok"
    assert named["folders", "store"]["state"] == "ok" and "will be made" in named["folders", "store"]["message"]
    assert {n for g, n in named if g == "extras"} == {"ray", "slurm", "speech", "diffusers"}
    assert all(c["state"] in ("ok", "note") for c in checks), [c for c in checks if c["state"] == "problem"]
    assert not (tmp_path / "runs").exists()
    assert "No problems." in good("doctor")


def test_doctor_finds_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SCOREBENCH_DATA", str(tmp_path / "nowhere"))
    result = call("doctor", "--store", str(tmp_path / "file" / "runs"))
    assert result.exit_code == 1
    assert "PROBLEM store" in result.stdout and "PROBLEM SCOREBENCH_DATA" in result.stdout


def test_doctor_finds_damaged_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    (package / "baselines" / "weights").mkdir(parents=True)
    (package / "baselines" / "weights" / "a.safetensors").write_bytes(b"torn")
    pin = {"name": "a", "file": "baselines/weights/a.safetensors", "sha256": "0" * 64, "recipe": "r"}
    monkeypatch.setattr(artifacts, "PACKAGE", package)
    monkeypatch.setattr(artifacts, "pins", lambda: {"r": pin})
    (check,) = doctor._pins()
    assert check.state == "problem" and "a: missing or damaged" in check.message
    shutil.rmtree(package)
    assert next(doctor._pins()).state == "problem"
