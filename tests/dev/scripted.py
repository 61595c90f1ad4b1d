"""A stand-in for the proxy as its clients see it: TLS with the demo's certificates, answers from a script."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

from ztproxy.dev.ca import Pki, ensure_pki
from ztproxy.dev.state import AccessKey, DemoNote
from ztproxy.types import Secret


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request as it came."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    person: str | None
    """Common name in the client certificate."""


Answer = tuple[int, Mapping[str, str], bytes]
Script = Callable[[Asked], Answer]


@contextmanager
def https(pki: Pki, script: Script) -> Iterator[int]:
    """Answer over TLS by `script` while the context lasts; gives the port."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            subject = cast(ssl.SSLSocket, self.connection).getpeercert() or {}
            names = dict(pair for part in subject.get("subject", ()) for pair in part)  # type: ignore[misc]
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked = Asked(
                method=self.command,
                target=self.path,
                headers={name.lower(): value for name, value in self.headers.items()},
                body=body,
                person=names.get("commonName"),
            )
            status, headers, text = script(asked)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_DELETE = do_POST = _answer

        def log_request(self, code: object = "-", size: object = "-") -> None:
            """Quiet."""

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=pki.staff_ca)
    context.load_cert_chain(pki.edge.certificate, pki.edge.key)
    context.verify_mode = ssl.CERT_OPTIONAL
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def demo_pki(folder: Path) -> Pki:
    """Certificates for everybody in the demo."""
    return ensure_pki(folder, ["ada", "bob", "eve", "ci"], datetime.now(UTC))


def demo_note(
    pki: Pki, port: int, *, token_url: str = "http://127.0.0.1:1/token", client_secret: bytes = b"s"
) -> DemoNote:
    """The note of a demo whose proxy listens on this port."""
    return DemoNote(
        url=f"https://localhost:{port}",
        ca=pki.edge_ca,
        token_url=token_url,
        client_id="ztproxy-demo",
        client_secret=Secret(client_secret),
        audience="api://orders",
        people={name: (files.certificate, files.key) for name, files in pki.people.items()},
        access_keys={
            "ci": AccessKey(
                id="ZTPROXYDEMOACCESSKEY", secret=Secret(b"key-secret"), region="eu-west-1", service="execute-api"
            )
        },
    )
