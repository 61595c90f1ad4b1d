"""`ztproxy curl`: the real curl, sent through the running demo as one of its people.

curl gets certificate, authority and token as the text of a `-K` file behind a pipe: they are on no command line, in
no environment and on no disk, and standard input stays free for `-d @-`. curl then takes the place of this process,
so its output, its exit code and Ctrl-C are its own.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final, NoReturn

import click

MAX_PIPED_BYTES: Final = 16 * 1024
"""Written before anybody reads, so it must fit the smallest pipe of the systems we run on."""


# no short options: `-h` within `-Hname:value` would be taken for one
@click.command("curl", context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.option("--as", "name", default="bob", show_default=True, metavar="NAME", help="Who sends: ada, bob, eve or ci.")
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the demo.  [default: $XDG_STATE_HOME/ztproxy/demo]",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[CURL OPTIONS]... PATH")
def command(name: str, state: Path | None, arguments: tuple[str, ...]) -> None:
    """Send a request to the running demo with NAME's certificate and a fresh token.

    The status is shown on stderr, the body on stdout.

    \b
    ztproxy curl /orders/42
    ztproxy curl --as ada -X DELETE /orders/42
    """
    from ztproxy.dev.caller import curl_config, fetch_token
    from ztproxy.dev.state import DemoError, NotRunning, StateFolder, default_folder

    path, options = path_and_options(arguments)
    program = shutil.which("curl")
    if program is None:
        _leave("curl is not installed; on Debian and Ubuntu: apt-get install curl", 1)
    try:
        note = StateFolder(state or default_folder(os.environ)).read_note()
        if name not in note.people:
            raise click.BadParameter(f"the demo knows {', '.join(sorted(note.people))}", param_hint="--as")
        token = None if name in note.access_keys else fetch_token(note, name)
        config = curl_config(note, name, path, token)
    except NotRunning as error:
        _leave(str(error), 5)
    except DemoError as error:
        _leave(str(error), 1)
    sys.stdout.flush()
    # an argument vector and no shell; `-q` first, for a `.curlrc` must not change what the demo shows
    os.execv(program, ["curl", "-q", "-K", piped(config), *options])  # noqa: S606


def path_and_options(arguments: tuple[str, ...]) -> tuple[str, list[str]]:
    """The path, which stands first or last, and everything else for curl.

    Raises: `click.UsageError`.
    """
    # what stands first is never the value of an option; what stands last is one only where the path stands first
    for at in (0, -1):
        if arguments and arguments[at].startswith("/"):
            options = list(arguments)
            return options.pop(at), options
    raise click.UsageError("give a path such as `/orders/42` as the last argument")


def piped(config: bytes) -> str:
    """A name under which a program started from here reads `config`, once.

    Raises: `ValueError` when it is too large to wait in a pipe.
    """
    if len(config) > MAX_PIPED_BYTES:
        raise ValueError("the configuration for curl is too large")
    reader, writer = os.pipe()
    with open(writer, "wb") as file:
        file.write(config)
    os.set_inheritable(reader, True)
    return f"/dev/fd/{reader}"


def _leave(message: str, status: int) -> NoReturn:
    click.echo(f"ztproxy: {message}", err=True)
    sys.exit(status)
