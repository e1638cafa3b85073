"""Entry point of the command line: the group, lazy loading of its commands, and what becomes of errors.

Nothing here imports torch, numpy or pandas, so that ``--help``, lists and boards answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from ...configs.errors import ScorebenchError, nearest
from ...configs.loader import load_object
from .failures import INTERRUPTED, PIPE_CLOSED, broken_pipe, interrupted, report_unexpected, sentence

COMMANDS: dict[str, tuple[str, str]] = {
    "quickstart": ("quickstart:quickstart", "Benchmark six families on embedded data, with a page of boards and pictures."),
    "list": ("listing:list_", "List tasks, methods, datasets, priors, metrics, suites, ..."),
    "show": ("show:show", "Explain one task, method, dataset, prior, metric or suite in words."),
    "run": ("run:run", "Run variants on tasks and record the results."),
    "sweep": ("sweep:sweep", "Run a sweep: a file in the W&B sweep schema, planned up front."),
    "suite": ("suite:suite", "Run a named list of tasks, variants and seeds."),
    "status": ("status:status", "Say what a store holds, and how far the runs on it are."),
    "fetch": ("prefetch:fetch", "Make ready what a suite or sweep needs: data, weights, priors, fits (for nodes without network)."),
    "board": ("board:board", "Show the leaderboard of a task, a family or all tasks."),
    "compare": ("compare:compare", "Compare two variants on the same samples, in words."),
    "reproduce": ("reproduce:reproduce", "Reproduce a paper's table: paper, ours, difference, verdict."),
    "table": ("reproduce:table", "The same as reproduce."),
    "claims": ("claims:claims", "What papers claim, and what the records say to it."),
    "paper": ("paper:paper", "Write a table for a paper: LaTeX, Markdown, CSV or HTML."),
    "cite": ("cite:cite", "Print BibTeX of methods, datasets and metrics."),
    "inputs": ("submitted:inputs", "Write a task's observations as arrays, for software outside scorebench."),
    "score": ("submitted:score", "Score answers made outside scorebench."),
    "publish": ("publish:publish", "Publish boards, results and checkpoints to Weights & Biases."),
    "submit": ("submit:submit", "Make a bundle of records for a pull request."),
    "audit": ("submit:audit", "Check a bundle: hashes, values rescored, a fresh noise key, leaks."),
    "new": ("new:new", "Start a method of your own in a folder of your own."),
    "data": ("data:data", "List, verify, locate and fetch datasets and weights."),
    "doctor": ("doctor:doctor", "Check this machine: versions, data, weights, write permissions."),
    "nightly": ("nightly:nightly", "Run a suite and say what got worse since the accepted reference."),
    "accept": ("maintain:accept", "Maintainers: write records of a store to the accepted reference."),
    "lock": ("maintain:lock", "Maintainers: recompute configs/tasks/observations.lock."),
    "pin": ("maintain:pin", "Maintainers: ship trained weights with the package."),
}
"""Command name: where it is (module of this package and object), and its one line in ``--help``."""
HIDDEN = ("accept", "lock", "pin")


class Commands(click.Group):
    """A group whose commands are imported when they are called, and whose errors are one sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return load_object(f".harness.cli.{COMMANDS[cmd_name][0]}")

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = nearest(args[0], COMMANDS)
            hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(c for c in COMMANDS if c not in HIDDEN)}."
            raise click.UsageError(f"Unknown command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items() if name not in HIDDEN])

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run one command line and exit: 0 done, 1 ran and something failed, 2 the request was wrong, 130 interrupted."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        words = list(sys.argv[1:] if args is None else args)
        sys.exit(self._guarded(words, prog_name or "scorebench", complete_var, extra))

    def _guarded(self, words: list[str], prog_name: str, complete_var: str | None, extra: dict[str, Any]) -> int:
        debug = "--debug" in words or os.environ.get("SCOREBENCH_DEBUG", "") not in ("", "0")
        try:
            code = super().main(words, prog_name, complete_var, standalone_mode=False, **extra)
            sys.stdout.flush()
            return code if isinstance(code, int) else 0
        except click.UsageError as e:
            where = e.ctx.command_path if e.ctx else prog_name
            click.echo(f"{sentence(e.format_message())} See `{where} --help`.", err=True)
            return 2
        except click.ClickException as e:
            click.echo(sentence(e.format_message()), err=True)
            return e.exit_code
        except ScorebenchError as e:
            if debug:
                raise
            click.echo(sentence(str(e)), err=True)
            return e.exit_code
        except (KeyboardInterrupt, click.Abort):
            return interrupted()
        except BrokenPipeError:
            return broken_pipe()
        except SystemExit as e:
            return self._exit_code(e)
        except Exception as e:
            if debug:
                raise
            return report_unexpected(e, words)

    @staticmethod
    def _exit_code(e: SystemExit) -> int:
        """Lightning turns Ctrl-C into SystemExit, and click a closed pipe; the cause is still in the context."""
        cause: BaseException | None = e.__context__
        while cause is not None:
            if isinstance(cause, KeyboardInterrupt):
                return interrupted()
            if isinstance(cause, BrokenPipeError):
                return broken_pipe()
            cause = cause.__context__
        return e.code if isinstance(e.code, int) else int(e.code is not None)


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from ... import __version__

        click.echo(f"scorebench {__version__}")
        ctx.exit()


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 done; 1 ran, and something failed; 2 the request was wrong; 130 interrupted.",
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version.")
@click.option("--debug", is_flag=True, help="Show full tracebacks (also SCOREBENCH_DEBUG=1).")
def cli(debug: bool) -> None:
    """Benchmark score-based and denoising methods, with numbers that can be compared.

    Start with `scorebench quickstart`, then `scorebench board all`.
    """
    if debug:
        os.environ["SCOREBENCH_DEBUG"] = "1"


def main() -> None:
    """Run the command line."""
    cli.main(prog_name="scorebench")


__all__ = ["COMMANDS", "INTERRUPTED", "PIPE_CLOSED", "cli", "main"]
