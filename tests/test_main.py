"""The entry point as people meet it: a process with arguments, two streams and an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import click
import pytest

from ztproxy import __version__, cli
from ztproxy.cli.lazy import LazyCommand
from ztproxy.errors import ConfigError, Problem

HEAVY = (
    "aiohttp",
    "asyncio",
    "boto3",
    "botocore",
    "cryptography",
    "jwt",
    "orjson",
    "pydantic",
    "ssl",
    "uvloop",
    "yaml",
)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ztproxy", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **environment},
        check=False,
    )


def test_help_lists_the_commands() -> None:
    result = run("--help")
    assert result.returncode == 0
    assert result.stderr == ""
    for command in cli.COMMANDS:
        assert f"\n  {command.name} " in result.stdout


def test_version() -> None:
    result = run("--version")
    assert (result.returncode, result.stdout) == (0, f"ztproxy {__version__}\n")


def test_an_unknown_command_is_a_usage_error_with_the_nearest_name() -> None:
    result = run("serv")
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Did you mean 'serve'?" in result.stderr


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), ("nothing",)], ids=["help", "version", "unknown command"]
)
def test_what_needs_no_command_imports_nothing_heavier_than_click(arguments: tuple[str, ...]) -> None:
    program = (
        "import atexit, sys\n"
        "from ztproxy.cli import main\n"
        f"sys.argv[1:] = {list(arguments)}\n"
        "atexit.register(lambda: print('modules', *sys.modules))\n"
        "main()\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    loaded = result.stdout.splitlines()[-1].split()
    assert loaded[0] == "modules"
    assert set(loaded) & set(HEAVY) == set()
    assert {name for name in loaded if name.startswith("ztproxy")} == {
        "ztproxy",
        "ztproxy.cli",
        "ztproxy.cli.lazy",
        "ztproxy.errors",
    }


def test_completion_imports_nothing_heavier_than_click() -> None:
    environment = {"_ZTPROXY_COMPLETE": "bash_complete", "COMP_WORDS": "ztproxy de", "COMP_CWORD": "1"}
    result = run(**environment, PYTHONPROFILEIMPORTTIME="1")
    assert result.stdout == "plain,demo\n"
    loaded = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "click.shell_completion" in loaded
    assert loaded & set(HEAVY) == set()


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: str(command.name))
def test_every_command_stands_where_the_table_says(command: LazyCommand) -> None:
    real = command.load()
    assert real.name == command.name
    assert real.help


@pytest.fixture
def leave_with(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[BaseException], tuple[object, str]]:
    """Runs `main` with a command that raises the given error; gives the exit code and stderr."""

    def leave(error: BaseException) -> tuple[object, str]:
        @click.command("serve")
        def failing() -> None:
            raise error

        monkeypatch.setitem(cli.commands.commands, "serve", failing)
        monkeypatch.setattr(sys, "argv", ["ztproxy", "serve"])
        with pytest.raises(SystemExit) as left:
            cli.main()
        captured = capsys.readouterr()
        assert captured.out == ""
        return left.value.code, captured.err

    return leave


PROBLEMS = (Problem("b.yaml", 7, 3, "unknown key `listner`"), Problem("a.yaml", 2, 1, "version: is missing"))


def test_a_bad_configuration_is_told_line_by_line(
    leave_with: Callable[[BaseException], tuple[object, str]],
) -> None:
    expected = "a.yaml:2:1: version: is missing\nb.yaml:7:3: unknown key `listner`\n"
    assert leave_with(ConfigError(PROBLEMS)) == (2, expected)


def test_a_bad_configuration_found_inside_a_task_group_reads_the_same(
    leave_with: Callable[[BaseException], tuple[object, str]],
) -> None:
    nested = ExceptionGroup("tasks", [ExceptionGroup("tasks", [ConfigError(PROBLEMS[:1])])])
    assert leave_with(nested) == (2, "b.yaml:7:3: unknown key `listner`\n")


def test_control_characters_of_a_file_do_not_reach_the_terminal(
    leave_with: Callable[[BaseException], tuple[object, str]],
) -> None:
    problem = Problem("a.yaml", 1, 1, "unknown key `\x1b]0;owned\x07`")
    assert leave_with(ConfigError((problem,))) == (2, "a.yaml:1:1: unknown key `\\x1b]0;owned\\x07`\n")


def test_an_unexpected_error_is_one_line_and_the_way_to_more(
    leave_with: Callable[[BaseException], tuple[object, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZTPROXY_DEBUG", raising=False)
    code, told = leave_with(ValueError("first line\x1b[31m\nsecond line"))
    assert code == 1
    assert told == (
        "ztproxy: ValueError: first line\\x1b[31m\nztproxy: set ZTPROXY_DEBUG=1 to see where this came from\n"
    )


def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command("serve")
    def failing() -> None:
        raise ValueError("first line")

    monkeypatch.setenv("ZTPROXY_DEBUG", "1")
    monkeypatch.setitem(cli.commands.commands, "serve", failing)
    monkeypatch.setattr(sys, "argv", ["ztproxy", "serve"])
    with pytest.raises(ValueError, match="first line"):
        cli.main()


def test_an_exit_code_of_a_command_is_kept(leave_with: Callable[[BaseException], tuple[object, str]]) -> None:
    assert leave_with(click.exceptions.Exit(3)) == (3, "")
