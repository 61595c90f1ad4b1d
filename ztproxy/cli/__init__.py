"""The command line: one small module per command, imported only when that command runs.

`--help`, `--version` and completion import nothing heavier than click (150 ms budget). Exit codes: 0 ok,
1 unexpected, 2 usage or configuration, 3 denied, 4 needs login, 5 unreachable.
"""

from __future__ import annotations

import os
import sys
from typing import Final

import click

from ztproxy import __version__
from ztproxy.cli.lazy import LazyCommand, LazyGroup
from ztproxy.errors import ConfigError

COMMANDS: Final = (
    LazyCommand("serve", "ztproxy.cli.serve:command", "Run the proxy with a configuration file."),
    LazyCommand("check", "ztproxy.cli.check:command", "Check a configuration and every policy it names."),
    LazyCommand("demo", "ztproxy.cli.demo:command", "Start a complete try-out on this machine."),
    LazyCommand("curl", "ztproxy.cli.curl:command", "Send a request to the running demo as one of its personas."),
    LazyCommand("audit", "ztproxy.cli.audit:command", "Verify the chain of audit records."),
)


@click.group(cls=LazyGroup, commands=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ztproxy", message="%(prog)s %(version)s")
def commands() -> None:
    """Identity-aware access proxy for teams on AWS."""


def main() -> None:
    """Run the command named in `sys.argv` and leave with its exit code."""
    try:
        commands.main(prog_name="ztproxy")
    except Exception as raised:
        error = _alone(raised)
        if isinstance(error, ConfigError):
            for problem in error.problems:
                click.echo(_printable(str(problem)), err=True)
            sys.exit(error.exit_code)
        if os.environ.get("ZTPROXY_DEBUG") == "1":
            raise
        said = _printable(str(error).partition("\n")[0])
        click.echo(f"ztproxy: {type(error).__name__}: {said}", err=True)
        click.echo("ztproxy: set ZTPROXY_DEBUG=1 to see where this came from", err=True)
        sys.exit(1)


def _alone(error: Exception) -> Exception:
    """The one error a task group wrapped, if it wrapped only one."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _printable(text: str) -> str:
    # a message may quote a peer or a file, and a terminal obeys control characters
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
