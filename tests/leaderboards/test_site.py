"""The site opens from disk, says where every number comes from, shows what it may, and keeps what it was given as text."""

from __future__ import annotations

import html
import importlib.util
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from click.testing import CliRunner

from scorebench.configs.errors import RequestError
from scorebench.leaderboards import record as R
from scorebench.leaderboards.board import build
from scorebench.leaderboards.ledger import Store
from scorebench.leaderboards.site import build as site_build
from scorebench.leaderboards.site import vendor
from scorebench.leaderboards.site.shell import Names, as_json
from scorebench.leaderboards.sources import gather

EVIL = "<script>window.injected=1</script>"
VOID = {"meta", "img", "br", "link", "input", "hr"}


def browser_module():
    spec = importlib.util.spec_from_file_location("leaderboards_browser", Path(__file__).with_name("browser.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def boards_of(root, make, **meta):
    """Return boards of two tasks: pictures (with a variant, settings and an error that try to inject), and sound."""
    store = make.fill(Store(root))
    store.append(*make.unit("slow", status="failed", error=("timeout", f"{EVIL} too long")))
    store.append(*make.unit(f"x[{EVIL}]", unit_id="evil", level=21, hparams={f"</dd>{EVIL}": "'\""}, cost={"sample_s_median": 0.5}))
    tone = (0.5 * np.sin(np.arange(8000) / 16000 * 2 * np.pi * 2000))[None].astype(np.float16)
    sound = {**make.META, "id": "speech/toy", "title": f"Toy speech {EVIL}", "family": "speech"}
    sound["returns"] = {"kind": "audio", "sample_rate": 16000}
    for variant in ("dncnn", "noisy-input"):
        record, samples = make.unit(variant, meta=sound, suffix="-sound")
        samples = {k: v for k, v in samples.items() if not k.startswith("preview/")}
        samples |= {f"preview/photo{k}/{role}": tone * (1 + k) / 2 for k in range(2) for role in ("clean", "given", "answer")}
        store.append(record, samples)
    gathered = gather([store], reference=False)
    return [build({**make.META, **meta}, gathered), build({**sound, **meta}, gathered)]


CARDS = {
    "dncnn": {
        "id": "dncnn", "title": f"DnCNN {EVIL}", "families": ["denoising"], "abilities": ("denoise",), "tasks": ("denoising/*",),
        "trains_on": "paired", "paper": {"title": f"Beyond {EVIL}", "authors": "A, B", "year": 2017, "arxiv": "1608.03981", "code": "javascript:alert(1)//://"},
        "bibtex": f"@article{{x, note={{{EVIL}}}}}", "uses": {"clean_images": True}, "needs": {"prior": {"form": EVIL}}, "stochastic": "fit",
        "presets": {"default": {"title": EVIL}}, "published": [{"where": EVIL, "value": 29.23}], "notes": EVIL, "claims": (1,), "target": "m:C",
    },
    "nothing-run": {"id": "nothing-run", "title": "Never run", "families": ["denoising"]},
}  # fmt: skip
CLAIM = {
    "method": "dncnn", "claim": "c", "statement": f"It is best {EVIL}", "verdict": "supported", "scale": "embedded", "parity": "none",
    "effect": 1.5, "low": 1.0, "high": 2.0, "inequality": "dncnn > nlm", "note": EVIL, "where": EVIL,
    "tasks": ["denoising/toy"], "records": ["dncnn-0-0"],
}  # fmt: skip
TABLE = {
    "id": "t", "title": f"Table {EVIL}", "paper": {"title": EVIL, "year": 2017},
    "results": [
        {"row": f"DnCNN {EVIL}", "column": "Set12", "task": "denoising/toy", "metric": "psnr", "paper": 30.44, "digits": 2,
         "kind": "checkpoint", "where": EVIL, "reproduced": 30.441, "difference": 0.001, "tolerance": 0.05, "verdict": "reproduced",
         "note": EVIL, "quoted_from": EVIL},
        {"row": "BM3D", "column": "Set12", "task": "denoising/toy", "metric": "psnr", "paper": 29.97, "verdict": "not-run"},
    ],
}  # fmt: skip


class Page(HTMLParser):
    """Every tag closed in its order; scripts, links and files it names."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.scripts, self.text = [], [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.links += [given[n] for n in ("src", "href") if n in given]
        assert not any(n.startswith("on") for n in given)
        if tag == "script":
            self.scripts.append(given)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in ("rect", "line", "path", "circle")

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open[-3:])
        self.open.pop()

    def handle_data(self, data):
        self.text += data if self.open and self.open[-1] not in ("script", "style") else ""


def test_pages_are_whole_linked_and_escaped(tmp_path, make):
    out = tmp_path / "site"
    written = site_build.write_site(boards_of(tmp_path / "runs", make), out, cards=CARDS, claims=[CLAIM], tables=[TABLE], facts={EVIL: EVIL})
    assert written.missing == []
    pages = sorted(out.rglob("*.html"))
    assert len(pages) == written.pages and {p.parent.name for p in pages} == {"site", "tasks", "methods"}
    for file in pages:
        text = file.read_text()
        page = Page(text)
        assert EVIL not in text and "<script>window.inj" not in text
        assert [s for s in page.scripts if "src" not in s] == [{}, *([{"type": "application/json", "id": "data"}] * ('id="data"' in text))]
        for link in page.links:
            if link.startswith("https://"):
                assert link == "https://arxiv.org/abs/1608.03981"
            elif not link.startswith(("data:,", "#")):
                target, _, _ = link.partition("#")
                assert (file.parent / unquote(target)).resolve().is_file(), (file.name, link)
    toy = Page((out / "tasks" / "denoising-toy.html").read_text()).text
    assert EVIL in toy and "too long" in toy and "29.1" in toy and "lpips is unavailable" in toy
    dncnn = Page((out / "methods" / "dncnn.html").read_text()).text
    assert all(said in dncnn for said in ("Beyond", "clean images", "It is best", "+1 to +2", "Toy denoising", "29.23"))
    assert "javascript" not in " ".join(Page((out / "methods" / "dncnn.html").read_text()).links)
    assert "No record yet" in (out / "methods" / "nothing-run.html").read_text()
    assert "30.44" in (out / "tables.html").read_text() and "†" in (out / "tables.html").read_text()
    data = json.loads((out / "tasks" / "denoising-toy.json").read_text())
    assert data["task"] == "denoising/toy" and len(data["rows"]) == 5
    assert (out / "tasks" / "denoising-toy.csv").read_text().count("\n") > 5


def test_every_number_has_its_provenance(tmp_path, make):
    boards = boards_of(tmp_path / "runs", make)
    site_build.write_site(boards, tmp_path / "site")
    text = (tmp_path / "site" / "tasks" / "denoising-toy.html").read_text()
    rows = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text).group(1))["rows"]
    buttons = re.findall(r'class="num" data-row="([^"]*)" data-of="([^"]*)"', text)
    assert len(buttons) > 20
    for key, of in buttons:
        row = rows[html.unescape(key)]
        assert of in row["metrics"] or of.removeprefix("cost:") in row["cost"]
    first = rows["denoising/toy|default|test|dncnn|last|"]
    assert first["facts"][0] == ["command", "scorebench run -t denoising/toy -m dncnn -s 0 -s 1 -s 2 --draw 0 --draw 1 --draw 2"]
    assert len(first["units"]) == 9 and first["units"][0]["code"] == "code1" and first["units"][0]["observations"] == "obs0"
    assert np.mean([u["values"]["psnr"] for u in first["units"]]) == pytest.approx(first["metrics"]["psnr"]["mean"])
    evil = next(r for k, r in rows.items() if "script" in k)
    assert f"'x[{EVIL}]'" in evil["facts"][0][1]


def test_pictures_obey_the_licence_and_accepted_records_say_that_they_have_none(tmp_path, make):
    site_build.write_site(boards_of(tmp_path / "a", make), tmp_path / "shown")
    files = {p.suffix for p in (tmp_path / "shown" / "media").iterdir()}
    assert files == {".png", ".wav"}
    site_build.write_site(boards_of(tmp_path / "b", make, pixels="never"), tmp_path / "hidden")
    assert not (tmp_path / "hidden" / "media").exists()
    assert "allows no pictures" in (tmp_path / "hidden" / "tasks" / "denoising-toy.html").read_text()
    store = Store(tmp_path / "c")
    record, samples = make.unit("dncnn")
    store.append(record, {k: v for k, v in samples.items() if not k.startswith("preview")})
    site_build.write_site([build(make.META, gather([store], reference=False))], tmp_path / "plain")
    text = (tmp_path / "plain" / "tasks" / "denoising-toy.html").read_text()
    assert "no pictures and no sounds" in text and "scorebench run -t denoising/toy -m dncnn" in text


def test_a_site_is_replaced_and_nothing_else_is(tmp_path, make):
    boards, out = boards_of(tmp_path / "runs", make), tmp_path / "site"
    site_build.write_site(boards, out, claims=[CLAIM])
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != site_build.MANIFEST}
    (out / "mine.txt").write_text("kept")
    site_build.write_site(boards, out, claims=[CLAIM])
    assert before == {p: p.stat().st_mtime_ns for p in before}  # nothing changed, nothing written
    site_build.write_site(boards[:1], out)
    assert not (out / "claims.html").exists() and not (out / "tasks" / "speech-toy.html").exists() and (out / "mine.txt").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("x")
    with pytest.raises(RequestError, match="other things and no site"):
        site_build.write_site(boards, other)
    with pytest.raises(RequestError, match="is a file"):
        site_build.write_site(boards, other / "thesis.tex")
    assert [p.name for p in other.iterdir()] == ["thesis.tex"]


def test_without_the_wheels_the_pages_are_plain(tmp_path, make, monkeypatch):
    monkeypatch.setattr(vendor, "_read", lambda wheel, ending: None)
    written = site_build.write_site(boards_of(tmp_path / "runs", make), tmp_path / "site")
    assert len(written.missing) == 2
    text = (tmp_path / "site" / "tasks" / "denoising-toy.html").read_text()
    assert "Built without plots (plotly)" in text and "datatables.js" not in text and 'id="pareto"' not in text
    Page(text)


def test_folders_of_the_machine_are_not_told(tmp_path, make):
    table = {**TABLE, "results": [{**TABLE["results"][1], "note": "put them in /data/mine (not in /data/minerals)"}]}
    hide = {"/data/mine": "$SCOREBENCH_DATA"}
    site_build.write_site(boards_of(tmp_path / "runs", make), tmp_path / "site", tables=[table], hide=hide)
    assert "put them in $SCOREBENCH_DATA (not in /data/minerals)" in (tmp_path / "site" / "tables.html").read_text()


def test_modules_become_classic_scripts():
    assert vendor._classic(b'var q=1;export{q as jQuery,r as default};\n/* export{x as y} */') == (
        b'(function(){"use strict";var q=1;window.scorebenchTables={jQuery:q};\n/* export{x as y} */\n})();\n'
    )
    assert vendor._classic(b"var q=1;export{q as other};") is None


def test_names_of_pages_are_safe_and_given_once():
    names = Names()
    assert names.page("tasks", "denoising/bsd68") == "tasks/denoising-bsd68.html"
    assert names.page("tasks", "denoising-bsd68") != names.page("tasks", "denoising/bsd68") == "tasks/denoising-bsd68.html"
    assert names.page("methods", "../../etc/passwd").startswith("methods/") and ".." not in names.page("methods", "../../etc/passwd")
    assert names.page("methods", "A") != names.page("methods", "a") and "/" not in names.page("methods", "con").removeprefix("methods/")
    assert as_json({"a": "</script>\u2028&"}) == '{"a":"\\u003c/script\\u003e\\u2028\\u0026"}'


def test_command_line_writes_a_site_or_one_page(tmp_path, make, monkeypatch):
    from scorebench.harness.cli.board import board

    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(board, ["classification", "--format", "html", "--out", "site", "--accepted"])
    assert done.exit_code == 0, done.output
    assert "open site/index.html" in done.output and (tmp_path / "site" / "tasks" / "classification-digits.html").is_file()
    assert (tmp_path / "site" / "methods" / "plain-cnn.html").is_file() and not (tmp_path / "site" / "methods" / "ddim.html").exists()
    done = CliRunner().invoke(board, ["classification", "--out", "page.html", "--accepted"])
    assert done.exit_code == 0 and (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    done = CliRunner().invoke(board, ["classification", "--format", "html", "--out", "full", "--accepted"])
    assert isinstance(done.exception, RequestError) and "other things" in str(done.exception)


# ---------------------------------------------------------------------- in a browser
browser_file = browser_module()
needs_chromium = pytest.mark.skipif(browser_file.CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = browser_file.Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory, make):
    root = tmp_path_factory.mktemp("site")
    site_build.write_site(boards_of(root / "runs", make), root / "site", cards=CARDS, claims=[CLAIM], tables=[TABLE])
    return root / "site"


NAMES = 'Array.from(document.querySelectorAll("#board tbody tr td.name"), e => e.querySelector("a").textContent)'


def head(text):
    return f'Array.from(document.querySelectorAll("#board th")).find(e => e.textContent.trim() === "{text}")'


@needs_chromium
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (420, True)])
def test_every_page_loads_without_a_complaint(browser, site, width, dark):
    browser.problems.clear()
    browser.asked.clear()
    grounds = set()
    for file in sorted(site.rglob("*.html")):
        browser.open(file, width=width, dark=dark)
        assert browser.run("document.documentElement.scrollWidth") <= width, file.name
        assert browser.run("typeof window.injected") == "undefined"
        grounds.add(browser.run("getComputedStyle(document.body).backgroundColor"))
    assert browser.problems == []
    assert [u for u in browser.asked if not u.startswith(("file:", "data:"))] == []
    assert grounds == {"rgb(20, 22, 26)" if dark else "rgb(250, 249, 246)"}


@needs_chromium
def test_tables_sort_and_filter(browser, site):
    browser.open(site / "tasks" / "denoising-toy.html")
    assert browser.run(NAMES)[:2] == ["dncnn", "nlm"]
    browser.run(f'{head("psnr")}.click(), {head("psnr")}.click()')  # numbers: first the largest, then the smallest
    smallest = browser.run(NAMES)
    assert smallest[0] == "noisy-input" and smallest[-1] == "dncnn"
    browser.run(f'{head("s / sample")}.click()')
    assert browser.run(NAMES)[0] == f"x[{EVIL}]"
    browser.run(f'{head("difference to dncnn")}.click(), {head("difference to dncnn")}.click()')
    assert browser.run(NAMES)[0] == "noisy-input"
    search = 'var s = document.querySelector("input[type=search]"); s.value = "%s"; s.dispatchEvent(new Event("input")); 1'
    browser.run(search % "nlm")
    assert browser.run(NAMES) == ["nlm"] and browser.run('document.querySelector(".shown").textContent') == "1 of 5 rows"
    browser.run(search % "")
    browser.run('var t = document.querySelector("select[data-column]"); t.value = "supervised"; t.dispatchEvent(new Event("change")); 1')
    assert browser.run(NAMES) == ["dncnn"]
    browser.open(site / "methods.html")
    assert browser.run('document.querySelectorAll("tbody tr").length') >= 5


@needs_chromium
def test_a_click_says_where_a_number_comes_from(browser, site):
    browser.open(site / "tasks" / "denoising-toy.html")
    button = 'Array.from(document.querySelectorAll("td button.num")).find(b => b.dataset.row.includes("%s") && b.dataset.of === "%s")'
    browser.run(f"{button % ('|dncnn|', 'psnr')}.click()")
    said = browser.run('document.getElementById("provenance").open && document.getElementById("provenance").textContent')
    for part in ("dncnn, psnr", "scorebench run -t denoising/toy -m dncnn -s 0", "psnr|grey|crop=0", "code1", "obs0", "fingerprint"):
        assert part in said
    assert browser.run('document.querySelectorAll("#provenance tbody tr").length') == 9
    browser.run('document.querySelector("#provenance .close").click()')
    assert browser.run('document.getElementById("provenance").open') is False
    browser.run(f"{button % ('script', 'cost:sample_s_median')}.click()")
    assert EVIL in browser.run('document.querySelector("#provenance h2").textContent') and browser.run("typeof window.injected") == "undefined"
    browser.open(site / "index.html")
    target = browser.run('document.querySelector("td.primary a").href')
    browser.open(target)
    assert browser.run('document.getElementById("provenance").open')


@needs_chromium
def test_plots_pictures_and_sounds_are_there(browser, site):
    browser.problems.clear()
    browser.open(site / "tasks" / "denoising-toy.html", height=4000)
    assert browser.run('document.querySelectorAll("#pareto .scatterlayer .points path").length') == 4  # all but the do-nothing row
    assert browser.run('document.querySelectorAll("#spread .boxlayer .trace").length') == 5
    assert browser.run('document.querySelectorAll("#pareto script, #spread script").length') == 0
    browser.run('var s = document.getElementById("spread-what"); s.value = "difference"; s.dispatchEvent(new Event("change")); 1')
    assert browser.run('document.querySelectorAll("#spread .boxlayer .trace").length') == 4
    ready = "Promise.all(Array.from(document.images, i => { i.loading = 'eager'; return i.decode().then(() => i.naturalWidth); }))"
    sizes = browser.run(ready)
    assert len(sizes) >= 8 and min(sizes) > 0
    browser.run('document.querySelector("button.enlarge").click()')
    assert browser.run('document.getElementById("enlarged").open')
    browser.open(site / "tasks" / "speech-toy.html", height=4000)
    assert min(browser.run(ready)) > 0
    heard = browser.run(
        "Promise.all(Array.from(document.querySelectorAll('audio'), a => new Promise((ok, no) => "
        "{ a.onloadedmetadata = () => ok(a.duration); a.onerror = () => no(a.error); a.preload = 'auto'; a.load(); })))"
    )
    assert len(heard) >= 4 and all(abs(s - 0.5) < 0.01 for s in heard)
    before = browser.run("getComputedStyle(document.body).backgroundColor")
    browser.run('document.getElementById("theme").click()')
    assert browser.run("getComputedStyle(document.body).backgroundColor") != before
    browser.run('document.getElementById("theme").click()')
    browser.run("localStorage.clear()")
    assert browser.problems == []


@needs_chromium
def test_a_large_board_with_set_level_metrics(browser, tmp_path, make):
    store = Store(tmp_path)
    meta = {**make.META, "primary": "fd", "metrics": {"fd": {"margin": "1.5%"}}, "reference": "m00", "do_nothing": "m39"}
    for k in range(40):
        metric = R.metric(3.0 + k / 7, 12, "fd|n=12", "set", higher_is_better=False, se=0.1 if k % 2 else None)
        store.append(*make.unit(f"m{k:02d}", metrics={"fd": metric}, stochastic="inference", cost={"sample_s_median": 0.001 * 1.2**k}))
    site_build.write_site([build(meta, gather([store], reference=False))], tmp_path / "site")
    browser.problems.clear()
    browser.open(tmp_path / "site" / "tasks" / "denoising-toy.html")
    assert browser.run('document.querySelectorAll("#board tbody tr").length') == 40
    assert browser.run('document.getElementById("spread") === null')
    assert browser.run('document.querySelectorAll("#pareto .scatterlayer .points path").length') == 39 and browser.problems == []
