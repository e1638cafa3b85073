"""A W&B Report on a suite: its content as plain data (made and tested without an account), and what saves it with wandb-workspaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from ..configs.errors import RequestError
from .board import Board
from .render_json import board_data
from .render_markdown import one
from .wandb_client import PublishError, Target, environment, reason
from .wandb_lineage import LEADERBOARD
from .wandb_rows import board_slug


@dataclass(frozen=True)
class Panel:
    """A plot over the runs of one task: ``bar`` of one metric, or ``scatter`` of quality (y) against cost (x)."""

    kind: Literal["bar", "scatter"]
    title: str
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """One board: its heading, its table in Markdown, and plots over the runs of a group (the task) with a filter on the budget."""

    title: str
    anchor: str
    markdown: str
    group: str
    budget: str
    panels: tuple[Panel, ...]


@dataclass
class ReportContent:
    """A whole report."""

    title: str
    description: str
    introduction: str
    sections: list[Section] = field(default_factory=list)

    def data(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def content(suite: str, boards: Sequence[Board]) -> ReportContent:
    """Return the report on a suite's boards; RequestError when none of its tasks has a row."""
    filled = [b for b in boards if b.rows]
    if not filled:
        raise RequestError(f"There is nothing to report: the store holds no row of the suite {suite!r}; `scorebench suite {suite}` runs it.")
    rows = sum(len(b.rows) for b in filled)
    tasks = len({b.task for b in filled})
    text = (
        f"{rows} rows on {tasks} task{'s' * (tasks != 1)} of the suite *{suite}*. Differences are to the reference row of each board, with "
        "95 % intervals on these samples; bold: not distinguishable from the best of its track. Every number is a mean over samples, seeds and "
        f"noise draws; the run `{LEADERBOARD}` holds the boards as tables, and each row's run its samples and results."
    )
    return ReportContent(f"scorebench: {suite}", f"Boards of the suite {suite}", text, [_section(b) for b in filled])


def _section(board: Board) -> Section:
    margins = {m: o.get("margin") for m, o in board.meta["metrics"].items()}
    markdown = "\n".join(line for line in one(board_data(board), margins).splitlines() if not line.startswith("## "))
    budget = "" if board.budget == "default" else f", {board.budget}"
    panels = [Panel("bar", f"{board.primary} by variant", (board.primary,))]
    if sum(r.group.costs.get("nfe") is not None and r.mean(board.primary) is not None for r in board.rows) > 1:
        panels.append(Panel("scatter", f"{board.primary} against network evaluations", ("cost/nfe", board.primary)))
    title = f"{board.meta.get('title', board.task)}{budget}"
    return Section(title, board_slug(board), markdown.strip(), board.task, board.budget, tuple(panels))


def build(report: ReportContent, target: Target) -> Any:
    """Return the report as wandb-workspaces' own object, not saved; RequestError when that package is not installed."""
    try:
        import wandb_workspaces.reports.v2 as wr
        from wandb_workspaces import expr
    except ImportError:
        raise RequestError("A Report needs the package wandb-workspaces; install it with `pip install wandb-workspaces`.") from None
    blocks: list[Any] = [wr.MarkdownBlock(report.introduction), wr.TableOfContents()]
    for s in report.sections:
        rows = wr.Runset(
            entity=target.entity or "", project=target.project, name=s.group,
            filters=[expr.Metric("group") == s.group, expr.Config("budget") == s.budget, expr.Metric("jobType") == "row"],
        )  # fmt: skip
        panels = [
            wr.BarPlot(title=p.title, metrics=[wr.SummaryMetric(p.metrics[0])], layout=wr.Layout(x=12 * k, y=0, w=12, h=8))
            if p.kind == "bar"
            else wr.ScatterPlot(
                title=p.title, x=wr.SummaryMetric(p.metrics[0]), y=wr.SummaryMetric(p.metrics[1]), layout=wr.Layout(x=12 * k, y=0, w=12, h=8)
            )
            for k, p in enumerate(s.panels)
        ]
        blocks += [wr.H2(s.title), wr.MarkdownBlock(s.markdown), wr.PanelGrid(runsets=[rows], panels=panels)]
    return wr.Report(
        project=target.project, entity=target.entity or "", title=report.title, description=report.description, blocks=blocks, width="fluid"
    )


def save(report: ReportContent, target: Target) -> str:
    """Save the report at the service and return its address: a report of the same title in the project is replaced."""
    try:
        with environment(target):
            target = replace(target, entity=target.entity or account())
            made = build(report, target)
            known = existing(report.title, target)
            if known:
                made.id = known
            made.save()
            return str(made.url)
    except RequestError:
        raise
    except Exception as e:  # whatever the client's transport raises
        raise PublishError(f"the report could not be saved: {reason(e)}") from e


def account() -> str:
    """Return the entity that the account publishes to when none is named."""
    import wandb

    return str(wandb.Api().default_entity or "")


def existing(title: str, target: Target) -> str | None:
    """Return the id of the project's report of this title."""
    import wandb

    path = f"{target.entity}/{target.project}" if target.entity else target.project
    return next((str(r.id) for r in wandb.Api().reports(path) if r.display_name == title), None)
