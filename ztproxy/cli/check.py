"""`ztproxy check`: everything `ztproxy serve` would look at before it opens a socket, and nothing more.

First line: what happened. Last line: what to type next. Exit codes: 0 it can be served, 2 it cannot.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ztproxy.config import Config


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path))
def command(file: Path) -> None:
    """Check a configuration FILE, with every key, certificate and policy it names."""
    from ztproxy.app import plan
    from ztproxy.config import load
    from ztproxy.errors import ConfigError

    try:
        config = load(file)
        plan(config)
    except ConfigError as error:
        click.echo(f"{file}: {_count(len(error.problems), 'problem')}")
        for problem in error.problems:
            click.echo(str(problem))
        click.echo(f"correct this, then check again: ztproxy check {shlex.quote(str(file))}")
        sys.exit(error.exit_code)
    click.echo(f"{file}: valid, {_summary(config)}")
    for warning in config.warnings:
        click.echo(f"{warning.file}:{warning.line}:{warning.column}: warning: {warning.message}")
    click.echo(f"start it: ztproxy serve -c {shlex.quote(str(file))}")


def _summary(config: Config) -> str:
    parts = [_count(len(config.listeners), "listener"), _count(len(config.routes), "route")]
    if config.warnings:
        parts.append(_count(len(config.warnings), "warning"))
    return ", ".join(parts)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
