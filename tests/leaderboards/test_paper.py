"""Tables for papers: what is bold, what is quoted, what the caption says, and that LaTeX takes it."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess

import pytest

from scorebench.configs.errors import RequestError
from scorebench.configs.loader import read
from scorebench.leaderboards import paper, render_paper, tables
from scorebench.leaderboards.board import build
from scorebench.leaderboards.ledger import Store
from scorebench.leaderboards.sources import gather

SPEC = """\
title: Toys & co.
label: tab:toys
columns:
  - head: Toys_1
    settings:
      - {name: "σ = 25", task: denoising/toy, metric: psnr}
      - {name: "σ = 25", task: denoising/toy, metric: ssim, digits: 4}
  - head: Others
    settings:
      - {name: "50 %", task: denoising/other, metric: psnr}
rows:
  - noisy-input
  - {variant: nlm, name: "NLM <fast>"}
  - {variant: "tv[weight=0.1]", name: TV}
  - rule
  - {variant: dncnn, name: DnCNN, cite: zhang2017}
  - {name: BM3D, quoted: {denoising/toy: "28.57"}, from: Dabov et al.}
  - {name: DnCNN-S, table: dncnn, row: DnCNN-S-PyTorch}
"""
VARIANTS = ("noisy-input", "nlm", "tv[weight=0.1]", "dncnn")


def spec_of(tmp_path, make, text=SPEC):
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    metas = {make.META["id"]: make.META, "denoising/other": {**make.META, "id": "denoising/other"}}
    return paper.parse(read(path), metas, lambda v: None if v in VARIANTS else f"Unknown method {v!r}", tables.get), metas


@pytest.fixture
def grid_of(tmp_path, make):
    store = make.fill(Store(tmp_path / "runs"))
    store.append(*make.unit("dncnn", 0, 0, 31.0, meta={**make.META, "id": "denoising/other"}, suffix="-o", stochastic="fit"))

    def grid(text=SPEC):
        spec, metas = spec_of(tmp_path, make, text)
        gathered = gather([store], reference=False)
        return paper.layout(spec, lambda task, budget: build(metas[task], gathered, budget=budget))

    return grid


def cells(grid, name):
    return next(entries for row in grid.rows if row for line, entries in [row] if line.name == name)


def test_values_bold_and_quoted(grid_of, make, tmp_path):
    grid = grid_of()
    dncnn, nlm, quoted = cells(grid, "DnCNN"), cells(grid, "NLM <fast>"), cells(grid, "BM3D")
    board = build(make.META, gather([tmp_path / "runs"], reference=False))
    assert dncnn[0].value == board.row("dncnn").mean("psnr") and dncnn[0].text == f"{dncnn[0].value:.2f}" and len(dncnn[1].text) == 6
    near = {r.variant for r in board.near_best("psnr", [r for r in board.rows if not r.unranked])}
    assert dncnn[0].bold and near == {"dncnn"} and not nlm[0].bold
    assert (quoted[0].text, quoted[0].quoted, quoted[0].bold) == ("28.57", True, False) and quoted[1].text == "" == quoted[2].text
    assert all(e.text == "" for e in cells(grid, "DnCNN-S"))  # that table's tasks stand in no column
    assert grid.higher == (True, True, True)


def test_bold_within_tracks_the_single_best_and_none(grid_of):
    def bold(text):
        return {line.name for row in grid_of(text).rows if row for line, entries in [row] if entries[0].bold}

    assert bold(SPEC) == {"DnCNN"} and bold(SPEC + "bold: none\n") == set()
    assert bold(SPEC + "within: track\n") == {"DnCNN", "NLM <fast>", "TV"}
    assert len(bold(SPEC + "within: track\nbold: single\n")) == 1
    assert bold(SPEC + "bold: single\n") == {"DnCNN"}


def test_the_caption_says_what_must_be_known(grid_of):
    text = " ".join(grid_of().notes)
    assert "Bold: not distinguishable from the best of the column (step-down max-T, 5 %)." in text
    assert "psnr: psnr|grey|crop=0|range=1|per-image." in text and "ssim: ssim|grey|win=11." in text
    assert "1 x 3, 3 x 3" in text and "One trained instance, not the method: dncnn." in text
    assert "†: quoted, not measured here (BM3D: Dabov et al.)." in text and "–: no record." in text


def test_rows_chosen_on_test_data_are_marked_and_never_bold(grid_of, tmp_path, make):
    other = {**make.META, "id": "denoising/other"}
    for draw in range(3):
        Store(tmp_path / "runs").append(*make.unit("nlm", draw=draw, level=50, selection="test-clean", meta=other))
    grid = grid_of()
    entry = cells(grid, "NLM <fast>")[2]
    assert entry.apart and not entry.bold and cells(grid, "DnCNN")[2].bold and any("‡" in n for n in grid.notes)
    assert "$^{\\ddagger}$" in render_paper.latex(grid)


def test_latex_has_booktabs_and_escapes(grid_of):
    text = render_paper.latex(grid_of())
    assert text.count("\\toprule") == text.count("\\bottomrule") == 1 and text.count("\\midrule") == 2 and "\\cmidrule(lr){2-3}" in text
    assert "\\caption{Toys \\& co. " in text and "Toys\\_1" in text and "NLM \\textless{}fast\\textgreater{}" in text and "50 \\%" in text
    assert "\\cite{zhang2017}" in text and "28.57$^{\\dagger}$" in text and "$\\sigma$ = 25 psnr $\\uparrow$" in text
    for line in re.findall(r"^    (.*) \\\\$", text, re.MULTILINE)[1:]:
        assert len(re.findall(r"(?<!\\)&", line)) == 3, line
    assert render_paper.latex_escape("\\input{x} λ Ω ^~#$") == (
        "\\textbackslash{}input\\{x\\} $\\lambda$ $\\Omega$ \\textasciicircum{}\\textasciitilde{}\\#\\$"
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_latex_compiles(grid_of, tmp_path):
    before, after = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n", "\\end{document}\n"
    (tmp_path / "doc.tex").write_text(before + render_paper.latex(grid_of()) + after)
    done = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "doc.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "doc.pdf").stat().st_size > 1000, done.stdout[-2000:]


def test_markdown_csv_and_html_say_the_same(grid_of):
    grid = grid_of()
    rows = list(csv.DictReader(io.StringIO(render_paper.as_csv(grid))))
    assert len(rows) == 6 * 3 and {r["method"] for r in rows if r["quoted"] == "True"} == {"BM3D"}
    dncnn = next(r for r in rows if r["variant"] == "dncnn" and r["metric"] == "psnr")
    assert dncnn["printed"] == f"{float(dncnn['value']):.2f}" and dncnn["bold"] == "True"
    md, page = render_paper.markdown(grid), render_paper.as_html(grid)
    assert f"**{dncnn['printed']}**" in md and f"<b>{dncnn['printed']}</b>" in page and "28.57†" in md and "28.57<sup>†</sup>" in page
    assert "NLM &lt;fast&gt;" in md and "NLM &lt;fast&gt;" in page and "<fast>" not in md + page
    assert len({line.count("|") - line.count("\\|") for line in md.splitlines() if line.startswith("|")}) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: Toys & co.\n", "", r"spec.yaml:1: field 'title' is missing"),
        ("label:", "lable:", r"spec.yaml:2: unknown field 'lable'; did you mean 'label'"),
        ("task: denoising/other", "task: denoising/othr", r"spec.yaml:10: Unknown task 'denoising/othr'; did you mean"),
        ("metric: ssim", "metric: sim", r"spec.yaml:7: denoising/toy has no metric 'sim'; accepted: psnr, ssim, lpips"),
        ("digits: 4", "digits: 12", r"spec.yaml:7: field 'digits' is 12"),
        ("metric: ssim", "budget: nfe5", r"spec.yaml:7: denoising/toy has no budget 'nfe5'"),
        ("  - noisy-input\n", "  - nosy-input\n", r"spec.yaml:12: Unknown method 'nosy-input'"),
        ("  - noisy-input\n", "  - 7\n", r"spec.yaml:12: a row must be a variant, 'rule', or a mapping, not 7"),
        ("variant: nlm, ", "", r"spec.yaml:13: a row needs one of variant, table or quoted, and this one has none"),
        ("variant: nlm, ", "variant: nlm, table: dncnn, ", r"this one has variant and table"),
        (", from: Dabov et al.", "", r"spec.yaml:17: a quoted row needs a 'name', and 'from'"),
        ("{denoising/toy: ", "{denoising/tox: ", r"spec.yaml:17: the quoted number of 'denoising/tox' stands in no column"),
        ('"28.57"', "high", r"spec.yaml:17: 'high' is no number"),
        ("row: DnCNN-S-PyTorch", "row: DnCNN-X", r"spec.yaml:18: table 'dncnn' has no row 'DnCNN-X'; accepted: DnCNN-S-PyTorch"),
        ("table: dncnn", "table: dncn", r"Unknown table 'dncn'"),
        ("head: Others", "had: Others", r"spec.yaml:8: field 'columns.1.head' is missing"),
    ],
)
def test_a_wrong_spec_names_file_line_and_reason(tmp_path, make, old, new, message):
    assert old in SPEC
    with pytest.raises(RequestError, match=message):
        spec_of(tmp_path, make, SPEC.replace(old, new, 1))
