"""The demo's state folder: what lies where, who holds it, and the note that says where a running demo listens.

One demo at a time holds a folder, by a lock that dies with its process. The note is written when everything answers
and taken away when the demo stops; `read_note` believes it only while the lock is held, so a note left behind by a
killed demo never sends a client secret to whoever has that port now.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ztproxy.errors import ZtproxyError
from ztproxy.types import Secret

MAX_NOTE_BYTES: Final = 64 * 1024
PERSONA_GRANT: Final = "urn:ztproxy:params:oauth:grant-type:persona"
"""The grant type by which the demo's issuer mints a token for a person by name."""


class DemoError(ZtproxyError):
    """The demo cannot go on; the text is one line for the person who typed the command."""


class NotRunning(DemoError):
    """No demo holds this state folder."""


def default_folder(environment: Mapping[str, str]) -> Path:
    """`$XDG_STATE_HOME/ztproxy/demo`; a relative value does not count, as the XDG specification says."""
    base = Path(environment.get("XDG_STATE_HOME") or "")
    return (base if base.is_absolute() else Path.home() / ".local" / "state") / "ztproxy" / "demo"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """A SigV4 key pair of the demo."""

    id: str
    secret: Secret
    region: str
    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoNote:
    """What a client of a running demo needs to know."""

    url: str
    """Of the proxy, without a path: `https://localhost:8443`."""
    ca: Path
    token_url: str
    client_id: str
    client_secret: Secret
    audience: str
    people: Mapping[str, tuple[Path, Path]]
    """Certificate and key by name."""
    access_keys: Mapping[str, AccessKey]
    """By the name of the machine that signs with it; it has no token."""


@dataclass(frozen=True, slots=True)
class StateFolder:
    """The folder and the places in it."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "proxy.yaml"

    @property
    def policies(self) -> Path:
        return self.path / "policies"

    @property
    def tls(self) -> Path:
        return self.path / "tls"

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def spool(self) -> Path:
        return self.path / "audit"

    @property
    def log(self) -> Path:
        return self.path / "proxy.log"

    @property
    def note(self) -> Path:
        return self.path / "demo.json"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder, made private to its owner, while the context lasts.

        Raises: `DemoError` when another demo holds it or it cannot be made.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DemoError(f"the state folder `{self.path}` cannot be used: {error.strerror}") from error
        try:
            _lock(lock, self.path)
            try:
                self.note.unlink(missing_ok=True)
                yield
            finally:
                self.note.unlink(missing_ok=True)
        finally:
            os.close(lock)

    def is_held(self) -> bool:
        """Whether a demo is running here."""
        try:
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def read_note(self) -> DemoNote:
        """The note of the demo that runs here.

        Raises: `NotRunning`; `DemoError` for a note that cannot be read.
        """
        try:
            if not self.is_held():
                raise FileNotFoundError
            with self.note.open("rb") as file:
                return note_from_json(file.read(MAX_NOTE_BYTES))
        except FileNotFoundError:
            raise NotRunning(f"no demo is running in `{self.path}`; start one with `ztproxy demo`") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DemoError(f"the note `{self.note}` cannot be read; start the demo again") from error


def _lock(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DemoError(f"a demo is already running in `{folder}`; choose another --state") from error


def note_to_json(note: DemoNote) -> bytes:
    """The note as a file's content; the secrets stand in it, so the file is its owner's alone."""
    return json.dumps(
        {
            "url": note.url,
            "ca": str(note.ca),
            "token_url": note.token_url,
            "client_id": note.client_id,
            "client_secret": note.client_secret.reveal().decode(),
            "audience": note.audience,
            "people": {name: [str(path) for path in pair] for name, pair in note.people.items()},
            "access_keys": {
                name: {
                    "id": key.id,
                    "secret": key.secret.reveal().decode(),
                    "region": key.region,
                    "service": key.service,
                }
                for name, key in note.access_keys.items()
            },
        },
        indent=1,
    ).encode()


def note_from_json(text: bytes) -> DemoNote:
    """The opposite of `note_to_json`.

    Raises: `ValueError`, `KeyError`, `TypeError` or `AttributeError` for anything else.
    """
    raw = json.loads(text)
    return DemoNote(
        url=raw["url"],
        ca=Path(raw["ca"]),
        token_url=raw["token_url"],
        client_id=raw["client_id"],
        client_secret=Secret(raw["client_secret"].encode()),
        audience=raw["audience"],
        people={name: (Path(certificate), Path(key)) for name, (certificate, key) in raw["people"].items()},
        access_keys={
            name: AccessKey(
                id=key["id"], secret=Secret(key["secret"].encode()), region=key["region"], service=key["service"]
            )
            for name, key in raw["access_keys"].items()
        },
    )
