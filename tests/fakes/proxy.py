"""A real `ztproxy serve` process with everything around it, for tests that drive it from outside."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes.pki import SERVER, Leaf, TestAuthority
from tests.fakes.tokens import AUDIENCE, ISSUER, TokenMaker
from tests.fakes.upstream import Upstream

ACCOUNT = "111122223333"
ACCESS_KEY = "AKIDTESTEXAMPLE1"
SECRET_KEY = "test-only-secret-key-that-opens-nothing"

POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "DevelopersRead",
            "Effect": "Allow",
            "Principal": {"Federated": ISSUER},
            "Action": "execute-api:Invoke",
            "Resource": [f"execute-api:/prod/{method}/*" for method in ("GET", "HEAD", "POST", "PUT", "OPTIONS")],
            "Condition": {"ForAnyValue:StringEquals": {"ztproxy:groups": "dev"}},
        },
        {
            "Sid": "PipelineAll",
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/ci"},
            "Action": "execute-api:Invoke",
            "Resource": "execute-api:/prod/*",
        },
        {
            "Sid": "NeverAdmin",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "execute-api:Invoke",
            "Resource": "execute-api:/prod/*/admin/*",
        },
    ],
}


@dataclass
class Answer:
    """One HTTP answer as it arrived."""

    status: int
    head: bytes
    body: bytes

    def value(self, name: str) -> str | None:
        """The value of a field."""
        for line in self.head.split(b"\r\n")[1:]:
            given, _, value = line.partition(b":")
            if given.decode().lower() == name:
                return value.strip().decode()
        return None

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


class Connection:
    """A raw TLS connection to the proxy."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self.socket = connection
        self._buffer = b""

    def send(self, data: bytes) -> Connection:
        """Sends bytes as they are."""
        self.socket.sendall(data)
        return self

    def _more(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except (ConnectionError, ssl.SSLError):
            return False
        self._buffer += data
        return bool(data)

    def answer(self, *, head_only: bool = False) -> Answer:
        """The next answer, whole."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                raise EOFError(f"cut before an answer: {self._buffer!r}")
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        answer = Answer(int(head.split(b" ", 2)[1]), head, b"")
        if answer.status < 200 or head_only or answer.status in (204, 304):
            return answer
        if answer.value("transfer-encoding") == "chunked":
            answer.body = self._chunks()
            return answer
        length = int(answer.value("content-length") or 0)
        while len(self._buffer) < length:
            if not self._more():
                raise EOFError(f"cut inside an answer of {length} bytes, {len(self._buffer)} came")
        answer.body, self._buffer = self._buffer[:length], self._buffer[length:]
        return answer

    def _chunks(self) -> bytes:
        body = b""
        while True:
            while b"\r\n" not in self._buffer:
                if not self._more():
                    raise EOFError("cut inside a chunked answer")
            size, _, self._buffer = self._buffer.partition(b"\r\n")
            count = int(size, 16) + 2
            while len(self._buffer) < count:
                if not self._more():
                    raise EOFError("cut inside a chunk")
            chunk, self._buffer = self._buffer[:count], self._buffer[count:]
            if count == 2:
                return body
            body += chunk[:-2]

    def ended(self) -> bool:
        """Whether the proxy closes the connection now, with nothing more to say."""
        return not self._buffer and not self._more() and not self._buffer

    def close(self) -> None:
        """Ends the connection."""
        self.socket.close()


class House:
    """PKI, issuer, upstream and a running proxy in one folder."""

    def __init__(self, folder: Path, *, change: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
        self.folder = folder
        self.staff = TestAuthority(folder, "staff")
        self.server = self.staff.issue("localhost", usages=SERVER, names=("localhost", "127.0.0.1"))
        self.bob = self.staff.issue("bob", uris=("spiffe://test.example/bob",))
        self.tokens = TokenMaker(folder)
        self.upstream = Upstream()
        self.spool = folder / "audit"
        (folder / "secret").write_text(SECRET_KEY)
        (folder / "secret").chmod(0o600)
        self.configuration = self._configuration()
        change(self.configuration)
        (folder / "policy.json").write_text(json.dumps(self.configuration.pop("policy", POLICY)))
        self.file = folder / "proxy.yaml"
        self.file.write_text(json.dumps(self.configuration, indent=1))
        self.process: subprocess.Popen[str] | None = None
        self.ports: dict[str, int] = {}

    def _configuration(self) -> dict[str, Any]:
        return {
            "version": 1,
            "arn": {"region": "eu-west-1", "account": ACCOUNT},
            "listeners": [
                {
                    "name": "edge",
                    "bind": "127.0.0.1:0",
                    "protocol": "http",
                    "tls": {
                        "certificate": f"file:{self.server.certificate}",
                        "key": f"file:{self.server.key}",
                        "client_certificates": {
                            "mode": "optional",
                            "authorities": [
                                {"name": "staff", "ca": f"file:{self.staff.path}", "spiffe": "test.example"}
                            ],
                        },
                    },
                }
            ],
            "issuers": [
                {"name": "corp", "issuer": ISSUER, "audiences": [AUDIENCE], "jwks": f"file:{self.tokens.path}"}
            ],
            "access_keys": [{"id": ACCESS_KEY, "secret": f"file:{self.folder}/secret", "user": "ci"}],
            "routes": [
                {
                    "name": "orders",
                    "host": "localhost",
                    "authenticate": {"all_of": ["certificate"], "any_of": ["corp", "sigv4"]},
                    "policy": "policy.json",
                    "upstream": {"url": f"http://127.0.0.1:{self.upstream.port}"},
                }
            ],
            "audit": {"spool": str(self.spool)},
        }

    def start(self) -> House:
        """Starts the proxy and waits until it listens."""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with (self.folder / "stderr.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ztproxy", "serve", "-c", str(self.file)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        assert self.process.stdout is not None
        until = time.monotonic() + 20
        said = b""
        while len(self.ports) < len(self.configuration["listeners"]):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, until - time.monotonic()))
            data = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not data:
                raise RuntimeError((self.folder / "stderr.log").read_text())
            *lines, said = (said + data).split(b"\n")
            for line in lines:
                address, _, name = line.decode().removeprefix("ztproxy listening on https://").strip().rpartition(" ")
                self.ports[name.strip("()")] = int(address.rpartition(":")[2])
        return self

    def context(self, leaf: Leaf | None) -> ssl.SSLContext:
        """A client's TLS, with or without a certificate."""
        context = ssl.create_default_context(cafile=str(self.staff.path))
        if leaf is not None:
            context.load_cert_chain(leaf.certificate, leaf.key)
        return context

    def raw(self, listener: str = "edge") -> socket.socket:
        """A plain connection to a listener."""
        connection = socket.create_connection(("127.0.0.1", self.ports[listener]), timeout=10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def connect(
        self, leaf: Leaf | None = None, *, name: str = "localhost", listener: str = "edge", preamble: bytes = b""
    ) -> Connection:
        """A TLS connection as bob, unless another certificate is given."""
        plain = self.raw(listener)
        plain.sendall(preamble)
        return Connection(self.context(leaf or self.bob).wrap_socket(plain, server_hostname=name))

    def anonymous(self) -> Connection:
        """A TLS connection without a client certificate."""
        return Connection(self.context(None).wrap_socket(self.raw(), server_hostname="localhost"))

    def request(self, line: str = "GET /orders/42", *fields: str, token: str | None = None, body: bytes = b"") -> bytes:
        """A request of bob's, or with another token; an empty token leaves it out."""
        token = self.tokens.token() if token is None else token
        lines = [f"{line} HTTP/1.1", "Host: localhost", *([f"Authorization: Bearer {token}"] if token else []), *fields]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join((*lines, "", "")).encode() + body

    def ask(self, line: str = "GET /orders/42", *fields: str, token: str | None = None, body: bytes = b"") -> Answer:
        """One request on a connection of its own."""
        connection = self.connect()
        try:
            return connection.send(self.request(line, *fields, token=token, body=body)).answer(
                head_only=line.startswith("HEAD ")
            )
        finally:
            connection.close()

    def records(self, event: str | None = None) -> list[dict[str, Any]]:
        """The bodies of the records written so far."""
        lines = [line for file in sorted(self.spool.glob("*.jsonl")) for line in file.read_bytes().splitlines()]
        bodies = [json.loads(line)["body"] for line in lines]
        return [body for body in bodies if event is None or body["event"] == event]

    def wait_records(self, event: str, count: int = 1, *, seconds: float = 5.0) -> list[dict[str, Any]]:
        """The records of an event, once there are that many."""
        until = time.monotonic() + seconds
        while len(found := self.records(event)) < count and time.monotonic() < until:
            time.sleep(0.02)
        return found

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=40)
        assert process.stdout is not None
        process.stdout.close()
        return code

    def close(self) -> None:
        """Ends everything that still runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
        self.upstream.close()
