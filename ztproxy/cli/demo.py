"""`ztproxy demo`: the whole proxy on this machine, with people, policies and an API to try."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from ztproxy.dev.state import StateFolder

DEFAULT_PORT: Final = 8443


@click.command("demo")
@click.option("--check", is_flag=True, help="Run a scripted tour on free ports instead, and leave with its result.")
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for certificates, configuration and records.  [default: $XDG_STATE_HOME/ztproxy/demo]",
)
@click.option("--port", type=click.IntRange(1, 65535), help=f"Of the proxy.  [default: {DEFAULT_PORT}]")
def command(check: bool, state: Path | None, port: int | None) -> None:
    """Start a complete try-out on this machine: CA, identity provider, API, policies and the proxy.

    Everything listens on 127.0.0.1 and keeps its files in one folder. Ctrl-C stops it.
    """
    from ztproxy.dev.state import DemoError, StateFolder, default_folder

    try:
        if not check:
            folder = StateFolder((state or default_folder(os.environ)).absolute())
            sys.exit(asyncio.run(_show(folder, port or DEFAULT_PORT, told_state=state)))
        if state is not None:
            sys.exit(asyncio.run(_check(StateFolder(state.absolute()), port)))
        sys.exit(_check_in_temporary_folder(port))
    except DemoError as error:
        _failed(str(error))
        sys.exit(1)


async def _show(folder: StateFolder, port: int, *, told_state: Path | None) -> int:
    """Run until a signal comes or the proxy ends."""
    from ztproxy.dev.stage import log_tail, staged
    from ztproxy.dev.state import DemoError

    task = asyncio.current_task()
    assert task is not None
    asked = False

    def stop() -> None:
        nonlocal asked
        # once only: a second Ctrl-C must not break the stopping, which is bounded anyway
        if not asked:
            asked = True
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        async with staged(folder, port, _ok) as stage:
            click.echo(try_lines(told_state, folder))
            status = await stage.proxy.wait()
            raise DemoError(f"the proxy ended with status {status}{log_tail(folder.log)}")
    except asyncio.CancelledError:
        if not asked:
            raise
        task.uncancel()
        click.echo("\nstopped; start again with the same command, the records are kept")
        return 0


def _check_in_temporary_folder(port: int | None) -> int:
    from ztproxy.dev.state import StateFolder

    path = Path(tempfile.mkdtemp(prefix="ztproxy-demo-"))
    passed = False
    try:
        status = asyncio.run(_check(StateFolder(path), port))
        passed = status == 0
        return status
    finally:
        if passed:
            shutil.rmtree(path)
        else:
            click.echo(f"the folder is kept for a look: {path}", err=True)


async def _check(folder: StateFolder, port: int | None) -> int:
    from ztproxy.dev.stage import staged
    from ztproxy.dev.tour import tour

    failures = 0
    async with staged(folder, port, _ok) as stage:
        async for step in tour(stage):
            if step.ok:
                _ok(f"{step.name:<52} {step.seen}")
            else:
                failures += 1
                _failed(f"{step.name}: {step.seen}")
    click.echo("the tour passed" if not failures else f"{failures} of the steps failed; see {folder.log}")
    return 1 if failures else 0


def try_lines(told_state: Path | None, folder: StateFolder) -> str:
    """What to type next, as commands that work from where the demo was started."""
    program = program_name(sys.argv[0])
    state = f" --state {shlex.quote(str(told_state))}" if told_state is not None else ""
    tries = (
        ("/orders/42", "allowed: bob is a developer, and they may read"),
        ("-X DELETE /orders/42", "denied, and why"),
        ("--as ada -X DELETE /orders/42", "allowed: ada is an admin"),
        ("--as ada -X DELETE /orders/7", "denied even to ada: a legal hold"),
        ("--as eve /orders/43", "denied: no statement is about contractors"),
        ("--as ci /orders/43", "allowed: a machine that signs as for AWS (SigV4)"),
    )
    width = max(len(arguments) for arguments, _ in tries)
    lines = [f"{program} curl{state} {arguments:<{width}}   {outcome}" for arguments, outcome in tries]
    lines.append(f"{program} audit verify {shlex.quote(str(folder.spool))}")
    return "\n".join(
        [
            "Try: " + "\n     ".join(lines),
            f"The proxy's configuration and policies: {folder.config}",
            "Ctrl-C stops everything.",
        ]
    )


def program_name(started_as: str) -> str:
    """What to type for this program: its name where that finds it, else the path it was started as."""
    found = shutil.which("ztproxy")
    started = Path(started_as)
    if started.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m ztproxy"
    if found is not None and Path(found).resolve() == started.resolve():
        return "ztproxy"
    return shlex.quote(started_as)


def _colour() -> bool | None:
    # None leaves it to click, which takes colour away where no terminal is
    return False if os.environ.get("NO_COLOR") else None


def _ok(text: str) -> None:
    click.echo(f" {click.style('ok', fg='green')}  {text}", color=_colour())


def _failed(text: str) -> None:
    click.echo(f"{click.style('FAILED', fg='red')}  {text}", err=True, color=_colour())
