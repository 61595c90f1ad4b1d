"""`ztproxy serve`: the real thing.

First line when ready: `ztproxy listening on ...`. SIGTERM and SIGINT drain: accept no more, let what was accepted
finish, flush the audit, exit 0.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ztproxy.app import App, Plan


@click.command("serve")
@click.option(
    "-c",
    "--config",
    "file",
    required=True,
    type=click.Path(path_type=Path),
    help="Configuration FILE; `ztproxy check FILE` tells whether it is valid.",
)
def command(file: Path) -> None:
    """Run the proxy with a configuration FILE."""
    from ztproxy.app import plan
    from ztproxy.config import load
    from ztproxy.errors import AuditUnavailable

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    config = load(file)
    for warning in config.warnings:
        click.echo(f"{warning.file}:{warning.line}:{warning.column}: warning: {warning.message}", err=True)
    planned = plan(config)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(planned))
    except AuditUnavailable as error:
        click.echo(f"ztproxy: {error.public}: {error.detail}", err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(f"ztproxy: {error.strerror or error}", err=True)
        sys.exit(1)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        click.echo(
            "ztproxy: warning: uvloop is not installed, so each idle connection costs 250 KiB more;"
            " install the `speed` extra for production",
            err=True,
        )
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve(planned: Plan) -> None:
    from ztproxy.app import App

    app = App(planned)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, app.stop)
    await app.run(_announce)


def _announce(app: App) -> None:
    for name, host, port in app.addresses:
        shown = f"[{host}]" if ":" in host else host
        click.echo(f"ztproxy listening on https://{shown}:{port} ({name})")
