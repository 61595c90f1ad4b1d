"""A running proxy under watch: what a test makes it do leaves exactly the records expected, and no secret anywhere."""

from __future__ import annotations

import errno
import json
import ssl
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fakes.pki import Leaf
from tests.fakes.proxy import SECRET_KEY, Answer, Connection, House

NOBODY = object()
"""In place of a certificate: none at all."""
SHORTEST_CANARY = 16


def refused(code: str) -> str:
    """The record of a request that was turned down."""
    return f"access.decided {code}"


def failed(code: str) -> str:
    """The record of a connection that never became a request."""
    return f"connection.failed {code}"


def served(code: str = "completed") -> tuple[str, str]:
    """The records of a request that was let through, and how it ended."""
    return "access.decided allowed", f"access.ended {code}"


class HeardConnection(Connection):
    """A connection that keeps everything the proxy says on it."""

    def __init__(self, connection: ssl.SSLSocket, heard: bytearray) -> None:
        super().__init__(connection)
        self._heard = heard

    def _more(self) -> bool:
        before = len(self._buffer)
        more = super()._more()
        self._heard += self._buffer[before:]
        return more


class WatchedHouse(House):
    """A `House` that counts its records and looks for its secrets."""

    def __init__(self, folder: Path, *, change: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
        super().__init__(folder, change=change)
        self.heard = bytearray()
        self.leaves: dict[str, Leaf] = {"bob": self.bob}
        self.secrets: set[bytes] = {SECRET_KEY.encode()}
        for key in folder.glob("*.key"):
            self.secrets.update(line for line in key.read_bytes().splitlines()[1:-1] if len(line) > 40)
        self._bystander: Connection | None = None
        self._read: dict[Path, int] = {}
        """How much of each file of the spool has been read into `_known`."""
        self._known: list[dict[str, Any]] = []
        self._searched: dict[Path | None, int] = {}
        """How much of each text `expecting` has searched for secrets; None: of what clients heard."""

    def start(self) -> WatchedHouse:
        """Starts the proxy, again if need be, and waits until it listens."""
        self.ports.clear()
        self._bystander = None
        super().start()
        return self

    def dial(
        self,
        leaf: Leaf | object | None = None,
        *,
        name: str = "localhost",
        listener: str = "edge",
        preamble: bytes = b"",
    ) -> Connection:
        """A TLS connection as bob, with another certificate, or with `NOBODY`'s."""
        plain = self.raw(listener)
        plain.sendall(preamble)
        context = self.context(leaf if isinstance(leaf, Leaf) else None if leaf is NOBODY else self.bob)
        with warnings.catch_warnings():
            # Where the peer has reset already, CPython drops the half-made socket without closing it.
            warnings.simplefilter("ignore", ResourceWarning)
            gone: str | None = None
            try:
                wrapped = context.wrap_socket(plain, server_hostname=name, do_handshake_on_connect=False)
            except OSError as error:
                gone = str(error)
                error.__traceback__ = None
        if gone is not None:
            plain.close()
            raise ConnectionResetError(gone)
        try:
            wrapped.do_handshake()  # by hand: `wrap_socket` skips it where the peer has gone already
        except BaseException as error:
            wrapped.close()
            if isinstance(error, OSError) and error.errno == errno.ENOTCONN:
                raise ConnectionResetError("closed before the handshake") from None
            raise
        return HeardConnection(wrapped, self.heard)

    def connect(
        self, leaf: Leaf | None = None, *, name: str = "localhost", listener: str = "edge", preamble: bytes = b""
    ) -> Connection:
        """A TLS connection as bob, unless another certificate is given."""
        return self.dial(leaf, name=name, listener=listener, preamble=preamble)

    def request(self, line: str = "GET /orders/42", *fields: str, token: str | None = None, body: bytes = b"") -> bytes:
        """A request of bob's, or with another token; the token counts as a secret from now on."""
        token = self.tokens.token() if token is None else token
        self.keep_secret(token)
        return super().request(line, *fields, token=token, body=body)

    def keep_secret(self, token: str) -> None:
        """From now on neither this token nor its signature may show anywhere."""
        parts = (token, token.rpartition(".")[2], token.partition(".")[2].partition(".")[0])
        self.secrets.update(part.encode() for part in parts if len(part) >= SHORTEST_CANARY)

    def ask_on(self, connection: Connection, raw: bytes) -> Answer:
        """One answer to raw bytes; the connection ends then."""
        try:
            return connection.send(raw).answer(head_only=raw.startswith(b"HEAD "))
        finally:
            connection.close()

    @contextmanager
    def expecting(self, *records: str, forwarded: int = 0) -> Iterator[None]:
        """What happens inside leaves these records and no other, and reaches the default upstream so many times.

        A bystander on a connection as old as the process is served before and after, and no secret has shown.
        """
        self._ask_as_bystander()
        seen, arrived = len(self.records()), len(self.upstream.requests)
        yield
        until = time.monotonic() + 8
        while len(self.records()) - seen < len(records) and time.monotonic() < until:
            time.sleep(0.01)
        bystander = self._ask_as_bystander()
        found = [f"{record['event']} {record['code']}" for record in self.records()[seen:] if record["id"] != bystander]
        assert sorted(found) == sorted(records), f"recorded {found}"
        reached = [request.line for request in self.upstream.requests[arrived:-1]]
        assert len(reached) == forwarded, f"the upstream got {reached}"
        assert self._new_leaks() == []

    def records(self, event: str | None = None) -> list[dict[str, Any]]:
        """The bodies of the records written so far; each is read once."""
        for file in sorted(self.spool.glob("*.jsonl")):
            at = self._read.get(file, 0)
            with file.open("rb") as stream:
                stream.seek(at)
                whole, newline, _ = stream.read().rpartition(b"\n")
            self._read[file] = at + len(whole) + len(newline)
            self._known += [json.loads(line)["body"] for line in whole.splitlines()]
        return [body for body in self._known if event is None or body["event"] == event]

    def _ask_as_bystander(self) -> str:
        if self._bystander is None:
            self._bystander = self.dial()
        answer = self._bystander.send(self.request("GET /bystander")).answer()
        assert answer.status == 200, answer.body
        return answer.value("x-ztproxy-id") or ""

    def leaks(self) -> list[bytes]:
        """Secrets that stand in a record, in the log, or in anything a client was told."""
        shown = [text for _, text in self._shown()]
        return [secret for secret in self.secrets if any(secret in text for text in shown)]

    def _new_leaks(self) -> list[bytes]:
        """As `leaks`, in what has been said or written since the last time."""
        new = []
        for where, text in self._shown():
            new.append(text[self._searched.get(where, 0) :])
            self._searched[where] = len(text)
        return [secret for secret in self.secrets if any(secret in text for text in new)]

    def _shown(self) -> Iterator[tuple[Path | None, bytes]]:
        yield None, bytes(self.heard)
        for file in (*self.folder.glob("std*.log"), *self.spool.glob("*.jsonl")):
            yield file, file.read_bytes()

    def stop(self) -> int:
        """SIGTERM, and the exit code; the bystander leaves first."""
        self._leave()
        return super().stop()

    def close(self) -> None:
        """Ends everything that still runs."""
        self._leave()
        super().close()

    def _leave(self) -> None:
        if self._bystander is not None:
            self._bystander.close()
            self._bystander = None
