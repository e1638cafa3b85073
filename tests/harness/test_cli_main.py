"""The command line as a whole: what it imports, how it fails, its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cli_tools import call, good, process, wrong

from scorebench import __version__
from scorebench.configs.errors import RunError
from scorebench.harness.cli import main as cli_main

HEAVY = ("torch", "pandas", "scipy", "lightning", "numpy.random")


def imported(tmp_path: Path, *words: str) -> set[str]:
    """Run a command line in a fresh process and return which of the heavy modules it imported."""
    program = (
        "import sys, json\n"
        "from scorebench.harness.cli.main import cli\n"
        "try:\n    cli.main(sys.argv[1:], prog_name='scorebench')\n"
        "except SystemExit as e:\n    assert e.code == 0, e.code\n"
        f"print('\\n' + json.dumps([m for m in {HEAVY!r} if m in sys.modules]))\n"
    )
    env = {**os.environ, "SCOREBENCH_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("--version",),
        ("run", "--help"),
        ("list", "methods"),
        ("list", "tasks", "--json"),
        ("list", "priors"),
        ("list", "metrics"),
        ("list", "suites"),
        ("show", "task", "denoising/photos-gaussian25"),
        ("show", "method", "ddim"),
    ],
    ids=" ".join,
)
def test_lists_and_descriptions_import_nothing_heavy(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert imported(tmp_path, *words) == set()


@pytest.mark.parametrize("words", [("list", "datasets"), ("board", "denoising/photos-gaussian25")], ids=" ".join)
def test_boards_and_datasets_do_without_torch_and_pandas(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert imported(tmp_path, *words) & {"torch", "pandas", "lightning"} == set()


def test_version_and_help() -> None:
    assert good("--version").strip() == f"scorebench {__version__}"
    text = good("--help")
    for name in cli_main.COMMANDS:
        assert (f"  {name} " in text) == (name not in cli_main.HIDDEN), name
    assert "Exit codes" in text


@pytest.mark.parametrize("name", cli_main.COMMANDS)
def test_every_command_loads_and_explains_itself(name: str) -> None:
    text = good(name, "--help")
    assert text.startswith(f"Usage: scorebench {name}")
    command = cli_main.cli.get_command(click.Context(cli_main.cli), name)
    assert command is not None and command.name == name and command.help


def test_unknown_command_names_the_nearest() -> None:
    message = wrong("bord")
    assert "'bord'" in message and "did you mean board" in message
    assert "known: quickstart" in wrong("zzzzzzz")


def test_unknown_option_names_the_nearest() -> None:
    assert "--famliy" in (message := wrong("list", "tasks", "--famliy", "speech")) and "--family" in message


def test_no_command_prints_the_help() -> None:
    result = call()
    assert "Commands:" in result.output and "Traceback" not in result.output


def boom(error: BaseException) -> click.Command:
    @click.command("list")
    def command() -> None:
        raise error

    return command


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Make ``scorebench list`` raise what is asked."""

    def install(error: BaseException) -> None:
        command = boom(error)
        monkeypatch.setattr(cli_main, "load_object", lambda target: command)

    return install


def test_a_defect_becomes_one_sentence_and_a_log(breaking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("SCOREBENCH_HOME", str(tmp_path))
    breaking(KeyError("lost"))
    message = wrong("list", code=1)
    log = Path(message.rpartition(" is in ")[2].rstrip("."))
    assert "KeyError" in message and log.parent == tmp_path / "logs"
    content = log.read_text()
    assert "Traceback" in content and "scorebench list" in content


def test_a_defect_with_a_read_only_home_is_still_logged(breaking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SCOREBENCH_HOME", str(tmp_path / "file"))
    breaking(KeyError("lost"))
    assert Path(wrong("list", code=1).rpartition(" is in ")[2].rstrip(".")).is_file()


@pytest.mark.parametrize("how", ["option", "variable"])
def test_debug_shows_the_traceback(breaking, monkeypatch: pytest.MonkeyPatch, how: str) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("SCOREBENCH_DEBUG", "1" if how == "variable" else "")
    breaking(KeyError("lost"))
    result = call(*(["--debug"] if how == "option" else []), "list")
    assert isinstance(result.exception, KeyError)


def lightning_interrupt() -> SystemExit:
    """SystemExit as Lightning raises it on Ctrl-C."""
    try:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)
    except SystemExit as e:
        return e


@pytest.mark.parametrize("error", [KeyboardInterrupt(), lightning_interrupt(), click.Abort()], ids=["ctrl-c", "lightning", "click"])
def test_interruption_exits_130_and_says_how_to_resume(breaking, error: BaseException) -> None:  # type: ignore[no-untyped-def]
    breaking(error)
    result = call("list")
    assert result.exit_code == 130
    assert result.stderr.strip() == "interrupted; the same command resumes"


@pytest.mark.parametrize(("error", "code"), [(RunError("it broke"), 1), (SystemExit(3), 3), (SystemExit("text"), 1), (SystemExit(None), 0)])
def test_other_ends_keep_their_code(breaking, error: BaseException, code: int) -> None:  # type: ignore[no-untyped-def]
    breaking(error)
    result = call("list")
    assert result.exit_code == code and "Traceback" not in result.output


def test_a_closed_pipe_is_silent() -> None:
    done = subprocess.run(
        f"{sys.executable} -m scorebench list tasks --json | head -c 1; echo ${{PIPESTATUS[0]}}", shell=True, executable="/bin/bash",
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.split("\n")[0].endswith(("0", "141"))


def test_module_and_script_are_the_same() -> None:
    assert process("--version").stdout == good("--version")
