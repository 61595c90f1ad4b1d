"""Placeholders answer for the listing, the suggestions and completion; running imports the real command."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from ztproxy.cli.lazy import LazyCommand, LazyGroup

REAL = """\
import click

@click.command("greet")
@click.argument("name")
def command(name):
    click.echo(f"hello {name}")

not_a_command = 1
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an importable module that nobody has imported yet."""
    name = "ztproxy_test_lazy_target"
    (tmp_path / f"{name}.py").write_text(REAL)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


@pytest.fixture
def group(module: str) -> LazyGroup:
    commands = (
        LazyCommand("greet", f"{module}:command", "Say hello."),
        LazyCommand("absent", "ztproxy_no_such_module:command", "Cannot be imported."),
        LazyCommand("wrong", f"{module}:not_a_command", "Is no command."),
    )
    return LazyGroup("tool", commands=commands)


def test_listing_shows_every_command_and_imports_none(group: LazyGroup, module: str) -> None:
    result = CliRunner().invoke(group, ["--help"])
    assert result.exit_code == 0
    assert "greet   Say hello." in result.output
    assert "absent  Cannot be imported." in result.output
    assert module not in sys.modules


def test_running_a_command_imports_and_runs_the_real_one(group: LazyGroup, module: str) -> None:
    result = CliRunner().invoke(group, ["greet", "ada"])
    assert (result.exit_code, result.output) == (0, "hello ada\n")
    assert module in sys.modules


def test_a_commands_own_help_is_the_real_one(group: LazyGroup) -> None:
    result = CliRunner().invoke(group, ["greet", "--help"])
    assert "NAME" in result.output


def test_an_unknown_command_is_answered_with_the_nearest(group: LazyGroup, module: str) -> None:
    result = CliRunner().invoke(group, ["gret"])
    assert result.exit_code == 2
    assert "No such command 'gret'. Did you mean 'greet'?" in result.output
    assert module not in sys.modules


def test_completion_imports_nothing(group: LazyGroup, module: str) -> None:
    items = ShellComplete(group, {}, "tool", "_TOOL_COMPLETE").get_completions([], "gr")
    assert [(item.value, item.help) for item in items] == [("greet", "Say hello.")]
    assert module not in sys.modules


def test_resolving_for_completion_tolerates_an_unknown_name(group: LazyGroup) -> None:
    ctx = click.Context(group, resilient_parsing=True)
    assert group.resolve_command(ctx, ["nothing"]) == (None, None, [])


def test_a_target_that_is_no_command_is_refused(group: LazyGroup) -> None:
    result = CliRunner().invoke(group, ["wrong"])
    assert isinstance(result.exception, TypeError)
    assert "ztproxy_test_lazy_target:not_a_command" in str(result.exception)


def test_a_target_that_cannot_be_imported_says_so(group: LazyGroup) -> None:
    result = CliRunner().invoke(group, ["absent"])
    assert isinstance(result.exception, ModuleNotFoundError)
