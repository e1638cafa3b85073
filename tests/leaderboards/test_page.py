"""The page opens from disk, shows what it may, escapes what it was given, and works in a browser."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from scorebench.leaderboards import html, pictures
from scorebench.leaderboards import record as R
from scorebench.leaderboards.board import build
from scorebench.leaderboards.gallery import gallery
from scorebench.leaderboards.ledger import Store
from scorebench.leaderboards.sources import gather

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "img", "br", "link", "input", "hr"}


def boards_of(tmp_path, make, **meta):
    store = make.fill(Store(tmp_path / "runs"), draws=(0, 1))
    store.append(*make.unit("slow", status="failed", error=("timeout", "<b>too long</b>")))
    store.append(*make.unit("x[<script>alert(1)</script>]", unit_id="evil", level=21, hparams={"</td><script>": "'\""}))
    gathered = gather([store], reference=False)
    return [build({**make.META, **meta}, gathered)], gathered


class Checker(HTMLParser):
    """Every tag is closed in its order; no reference leaves the page."""

    def __init__(self):
        super().__init__()
        self.open, self.outside, self.count = [], [], {}

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        for name, value in attrs:
            if name in ("src", "href") and not value.startswith(("data:", "#")):
                self.outside.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in ("rect", "line", "path", "circle")  # only inside a drawing

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open[-3:])
        self.open.pop()


def check(text):
    checker = Checker()
    checker.feed(text)
    assert not checker.open and not checker.outside
    return checker


def test_page_is_self_contained_well_formed_and_escaped(tmp_path, make):
    boards, gathered = boards_of(tmp_path, make)
    text = html.page(boards, gathered, title="a <b> & c", meta={"time": "<82 s>"})
    checker = check(text)
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)" in text
    assert "<b>too long" not in text and "&lt;b&gt;too long&lt;/b&gt;" in text and "&lt;82 s&gt;" in text
    assert "http://" not in text and "https://" not in text and "@import" not in text and "url(" not in text
    assert checker.count["img"] >= 8 and checker.count["script"] == 1
    for said in ("worse", "does nothing", "scorebench run -t denoising/toy", "psnr|grey|crop=0", "dncnn-0-0", "lpips is unavailable"):
        assert said in text
    file = html.write_page(boards, tmp_path / "site")
    assert file == tmp_path / "site" / "index.html" and file.read_text().startswith("<!doctype html>")


def test_pixels_obey_the_licence(tmp_path, make):
    boards, _ = boards_of(tmp_path, make, pixels="never")
    text = html.page(boards)
    assert "data:image" not in text and "allows no pictures" in text
    boards[0].meta.pop("pixels")  # nothing said: nothing shown
    assert "data:image" not in html.page(boards)
    shown, _ = boards_of(tmp_path / "b", make, pixels="display")
    assert "data:image" in html.page(shown)


def test_pictures_are_those_of_the_records(tmp_path, make):
    boards, _ = boards_of(tmp_path, make)
    strip = gallery(boards[0]).strips[0]
    assert strip.figures[0].title == "clean" and strip.figures[1].title == "given"
    assert {"dncnn", "nlm"} <= {f.title for f in strip.figures} and "dB" in strip.figures[2].caption
    decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(strip.figures[0].image.split(",")[1]))))
    np.testing.assert_array_equal(decoded, make.picture(int(strip.title[-1]))[0])


def test_sound_points_labels_and_sample_grids(tmp_path, make):
    store = Store(tmp_path)
    rng = np.random.default_rng(0)
    tone = (0.5 * np.sin(np.arange(16000) / 16000 * 2 * np.pi * 2000))[None].astype(np.float16)
    clean = {f"preview/photo0/{k}": tone for k in ("clean", "answer")} | {"preview/photo0/given": (tone + 0.1).astype(np.float16)}

    def board(name, kind, arrays, **meta):
        task = {**make.META, "id": f"any/{name}", "returns": {"kind": kind, "sample_rate": 16000}, **meta}
        record, samples = make.unit("dncnn", meta=task, suffix=name)
        samples = {k: v for k, v in samples.items() if not k.startswith("preview/")}
        store.append(record, samples | arrays)
        return build(task, gather([store], reference=False))

    sound = board("sound", "audio", clean)
    figures = gallery(sound).strips[0].figures
    assert [f.title for f in figures] == ["clean", "given", "dncnn"] and all(f.audio.startswith("data:audio/wav;base64,") for f in figures)
    raw = base64.b64decode(figures[0].audio.split(",")[1])
    back = np.frombuffer(raw[44:], "<i2") / 32767
    np.testing.assert_allclose(back, tone[0].astype(float), atol=1e-4)
    assert raw[:4] == b"RIFF" and int.from_bytes(raw[24:28], "little") == 16000
    cloud = {"preview/photo0/answer": np.zeros(2, np.float16), "features/sw": rng.normal(size=(make.N, 2)).astype(np.float16)}
    points = board("points", "points", cloud)
    assert gallery(points).strips[0].figures[0].size == (150, 150)
    logits = {f"preview/photo{k}/given": make.picture(k) for k in range(3)} | {f"preview/photo{k}/answer": np.eye(10)[k] for k in range(3)}
    right = {"metric/accuracy": np.r_[1.0, 0.0, 1.0, np.ones(make.N - 3)]}
    labels = gallery(board("labels", "logits", logits | right)).strips[0].figures
    assert [f.title for f in labels] == ["says 0", "says 1", "says 2"] and [f.good for f in labels] == [True, False, True]
    grid = board("grid", "image", {f"preview/s{k}/answer": make.picture(k, 8) for k in range(20)}, ability="sample")
    assert gallery(grid).strips[0].figures[0].size == (8 * 9 - 1, 3 * 9 - 1)
    none = board("none", "image", {})
    assert gallery(none).strips == [] and "carry none" in gallery(none).note
    check(html.page([sound, points, grid, none]))


def test_spectrogram_shows_the_tone_where_it_is():
    rate = 16000
    image = pictures.spectrogram(np.sin(2 * np.pi * 4000 * np.arange(rate) / rate)).astype(int).sum(2)
    brightest = image.mean(1).argmax()
    assert abs(brightest - 64) <= 1  # 4 of 8 kHz: the middle of 128 rows
    quiet = pictures.spectrogram(0.001 * np.sin(2 * np.pi * 4000 * np.arange(rate) / rate), reference=128.0)
    assert quiet.astype(int).sum() < image.sum()
    assert pictures.spectrogram(np.zeros(100)).shape == (128, 360, 3)


def test_large_pictures_are_cropped_never_resampled_and_floats_are_scaled_together():
    big = np.random.default_rng(0).integers(0, 256, (3, 400, 300), dtype=np.uint8)
    np.testing.assert_array_equal(pictures.pixels(big), np.moveaxis(big, 0, -1)[72:328, 22:278])
    a, b = np.full((1, 2, 2), -3.0), np.full((1, 2, 2), 5.0)
    assert pictures.span([a, b]) == (-3.0, 5.0) and pictures.span([np.zeros((1, 2, 2)) + 0.5]) == (0.0, 1.0)
    assert pictures.pixels(b, -3, 5).max() == 255
    with pytest.raises(ValueError, match="image"):
        pictures.pixels(np.zeros((2, 4, 4)))


def test_packed_raw_is_shown_in_colour() -> None:
    raw = np.stack([np.full((3, 5), v) for v in (0.2, 0.4, 0.6, 1.3)])
    shown = pictures.pixels(raw.astype(np.float16), 0, 0.5)
    assert shown.shape == (3, 5, 3)
    np.testing.assert_allclose(shown[0, 0] / 255, [0.2 ** (1 / 2.2), 0.5 ** (1 / 2.2), 1], atol=0.004)


def test_a_store_that_lost_its_samples_still_makes_a_page(tmp_path, make):
    boards, _ = boards_of(tmp_path, make)
    html.page(boards)
    for file in (tmp_path / "runs" / "samples").iterdir():
        file.unlink()
    fresh = [build(make.META, gather([tmp_path / "runs"], reference=False))]
    text = html.page(fresh)
    assert "29.1" in text and "No examples" in text


# ---------------------------------------------------------------------- in a browser
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)")

PROBE = """
<script>
window.addEventListener("load", function () {
  var table = document.querySelector("table.board");
  var names = function () { return Array.from(table.tBodies).map(function (b) { return b.querySelector(".name").textContent; }); };
  var out = {before: names(), errors: window.problems};
  var head = Array.from(table.tHead.rows[0].cells).find(function (h) { return h.textContent === "psnr"; });
  head.querySelector("button").click(); out.up = names(); out.sorted = head.getAttribute("aria-sort");
  head.querySelector("button").click(); out.down = names();
  var more = table.querySelector("tr.more"); out.hidden = more.hidden;
  table.querySelector("button.open").click(); out.shown = !more.hidden;
  out.theme = document.documentElement.dataset.theme || "";
  document.getElementById("theme").click(); out.toggled = document.documentElement.dataset.theme;
  out.images = Array.from(document.images).every(function (i) { return i.complete && i.naturalWidth > 0; });
  out.wide = document.documentElement.scrollWidth <= window.innerWidth;
  var p = document.createElement("pre"); p.id = "probe"; p.textContent = JSON.stringify(out); document.body.appendChild(p);
});
</script>
"""
CATCH = '<script>window.problems = []; window.addEventListener("error", function (e) { window.problems.push(e.message); });</script>'


@needs_chromium
@pytest.mark.parametrize("width", [1280, 420])
def test_page_works_in_a_browser(tmp_path, make, width):
    boards, _ = boards_of(tmp_path, make)
    text = html.page(boards).replace("<head>", "<head>" + CATCH, 1).replace("</body>", PROBE + "</body>", 1)
    file = tmp_path / "page.html"
    file.write_text(text)
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile", f"--window-size={width},900"]
    done = subprocess.run([*command, "--virtual-time-budget=5000", "--dump-dom", file.as_uri()], capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout)
    assert found, done.stderr[-500:]
    got = json.loads(found.group(1).replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))
    assert got["errors"] == [] and got["images"] and got["wide"]
    assert got["before"][0] == got["down"][0] == "dncnn" and got["up"] == list(reversed(got["down"])) and got["sorted"] == "ascending"
    assert got["hidden"] and got["shown"] and got["toggled"] in ("light", "dark")
    assert "CONSOLE" not in done.stderr


def test_set_level_rows_are_drawn_too(tmp_path, make):
    store = Store(tmp_path)
    meta = {**make.META, "primary": "fd", "metrics": {"fd": {"margin": "1.5%"}}, "reference": "a", "do_nothing": "b"}
    for variant, value in (("a", 3.0), ("b", 30.0), ("c", 2.5)):
        metric = R.metric(value, 12, "fd|n=12", "set", higher_is_better=False, se=0.1 if variant != "c" else None)
        store.append(*make.unit(variant, metrics={"fd": metric}, stochastic="inference"))
    text = html.page([build(meta, gather([store], reference=False))])
    check(text)
    assert text.count('class="forest') == 3 and "<path" in text  # the do-nothing row lies beyond the scale
