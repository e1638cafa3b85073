"""A paper's table as LaTeX (booktabs), Markdown, CSV or HTML, all from one `paper.Grid`."""

from __future__ import annotations

import csv
import html
import io
import unicodedata
from collections.abc import Iterator
from itertools import groupby

from .paper import Entry, Grid, Line, Setting
from .render_csv import guarded
from .render_markdown import escape

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "†": r"\textdagger{}", "‡": r"\textdaggerdbl{}", "–": "--", "×": r"$\times$", "±": r"$\pm$", "≤": r"$\leq$",
    "≥": r"$\geq$", "→": r"$\to$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "∞": r"$\infty$", "²": r"$^2$", "\n": " ",
}  # fmt: skip


def latex_escape(text: str) -> str:
    """Return ``text`` so that LaTeX prints it as it stands: its own characters escaped, Greek letters in mathematics."""
    return "".join(_LATEX.get(c) or _greek(c) for c in text)


def _greek(c: str) -> str:
    name = unicodedata.name(c, "")
    if not name.startswith(("GREEK SMALL LETTER ", "GREEK CAPITAL LETTER ")) or " WITH " in name or "FINAL" in name:
        return c
    letter = name.rpartition(" ")[2].replace("LAMDA", "LAMBDA").lower()
    return f"$\\{letter if 'SMALL' in name else letter.capitalize()}$"


def heads(grid: Grid) -> Iterator[tuple[str, int]]:
    """Yield (head, number of columns) of the upper header line."""
    for head, members in groupby(grid.columns, key=lambda c: c.head):
        yield head, len(list(members))


def sub(column: Setting, single: bool) -> str:
    """Return the lower header of a column: its setting, and its metric where the table has several."""
    return column.name if single else f"{column.name} {column.metric}".strip()


def _single(grid: Grid) -> bool:
    return len({c.metric for c in grid.columns}) == 1 and all(c.name for c in grid.columns)


def mark(entry: Entry) -> str:
    """Return the mark of a cell: a dagger where it is quoted, a double one where it is not ranked."""
    return "†" if entry.quoted else "‡" if entry.apart else ""


def latex(grid: Grid) -> str:
    """Return a ``table`` environment; it needs the packages booktabs and textcomp (in every LaTeX since 2020)."""
    out = ["% needs \\usepackage{booktabs}", "\\begin{table}", "  \\centering"]
    notes = " ".join(latex_escape(n) for n in grid.notes)
    out += [f"  \\caption{{{latex_escape(grid.title.rstrip('.'))}. {notes}}}", f"  \\label{{{_label(grid.label)}}}"]
    out += [f"  \\begin{{tabular}}{{l{'r' * len(grid.columns)}}}", "    \\toprule"]
    upper, rules, at = [""], [], 2
    for head, n in heads(grid):
        upper.append(f"\\multicolumn{{{n}}}{{c}}{{{latex_escape(head)}}}")
        rules.append(f"\\cmidrule(lr){{{at}-{at + n - 1}}}")
        at += n
    out += [f"    {' & '.join(upper)} \\\\", f"    {' '.join(rules)}"]
    arrows = ["$\\uparrow$" if up else "$\\downarrow$" for up in grid.higher]
    lower = [f"{latex_escape(sub(c, _single(grid)))} {a}".strip() for c, a in zip(grid.columns, arrows, strict=True)]
    out += [f"    Method & {' & '.join(lower)} \\\\", "    \\midrule"]
    for row in grid.rows:
        if row is None:
            out.append("    \\midrule")
            continue
        line, entries = row
        cells = [latex_escape(line.name) + (f"~\\cite{{{_label(line.cite)}}}" if line.cite else "")]
        for e in entries:
            text = latex_escape(e.text) if e.text else "--"
            raised = {"†": "$^{\\dagger}$", "‡": "$^{\\ddagger}$"}.get(mark(e), "")
            cells.append((f"\\textbf{{{text}}}" if e.bold else text) + raised)
        out.append(f"    {' & '.join(cells)} \\\\")
    out += ["    \\bottomrule", "  \\end{tabular}", "\\end{table}"]
    return "\n".join(out) + "\n"


def _label(text: str) -> str:
    """Return a label or citation key with nothing in it that LaTeX would take for a command."""
    return "".join(c for c in text if c.isalnum() or c in ":-_.,+/ ")


def markdown(grid: Grid) -> str:
    """Return a Markdown table with the caption below it."""
    single = _single(grid)
    head = ["Method"]
    for c, up in zip(grid.columns, grid.higher, strict=True):
        head.append(f"{escape(c.head)} {escape(sub(c, single))} {'↑' if up else '↓'}".replace("  ", " "))
    out = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * len(grid.columns)]
    for row in grid.rows:
        if row is not None:
            line, entries = row
            cells = [(f"**{escape(e.text)}**" if e.bold else escape(e.text) or "–") + mark(e) for e in entries]
            out.append("| " + " | ".join([escape(line.name), *cells]) + " |")
    return "\n".join([*out, "", " ".join([escape(grid.title.rstrip(".")) + ".", *(escape(n) for n in grid.notes)]), ""])


def as_csv(grid: Grid) -> str:
    """Return one line per cell: method, column, printed text, full value, bold, quoted."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["method", "variant", "dataset", "setting", "task", "budget", "metric", "printed", "value", "bold", "quoted", "source"])
    for row in grid.rows:
        if row is None:
            continue
        line, entries = row
        for c, e in zip(grid.columns, entries, strict=True):
            cells = [line.name, line.variant or "", c.head, c.name, c.task, c.budget, c.metric, e.text, e.value, e.bold, e.quoted, line.source]
            writer.writerow([guarded(x) for x in cells])
    return out.getvalue()


def as_html(grid: Grid) -> str:
    """Return a ``<table>`` with its caption, everything escaped."""
    single = _single(grid)
    upper = "".join(f'<th colspan="{n}" scope="colgroup">{html.escape(head)}</th>' for head, n in heads(grid))
    lower = "".join(
        f'<th scope="col">{html.escape(sub(c, single))} {"↑" if up else "↓"}</th>' for c, up in zip(grid.columns, grid.higher, strict=True)
    )
    out = ["<table>", f"<caption>{html.escape(' '.join([grid.title.rstrip('.') + '.', *grid.notes]))}</caption>"]
    out += [f'<thead><tr><th rowspan="2" scope="col">Method</th>{upper}</tr><tr>{lower}</tr></thead>', "<tbody>"]
    for row in grid.rows:
        if row is None:
            out.append("</tbody><tbody>")
            continue
        line, entries = row
        out.append(f"<tr>{_head(line)}{''.join(_cell(e) for e in entries)}</tr>")
    return "\n".join([*out, "</tbody>", "</table>", ""])


def _head(line: Line) -> str:
    title = f' title="{html.escape(line.source)}"' if line.source else ""
    return f'<th scope="row"{title}>{html.escape(line.name)}</th>'


def _cell(e: Entry) -> str:
    text = html.escape(e.text) or "–"
    return f"<td>{f'<b>{text}</b>' if e.bold else text}{f'<sup>{mark(e)}</sup>' if mark(e) else ''}</td>"


FORMATS = {"latex": latex, "md": markdown, "csv": as_csv, "html": as_html}
