"""The curl people have: uploads, HEAD, Expect, and its own SigV4, all as they type it."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.proxy import ACCESS_KEY, SECRET_KEY
from tests.fakes.watch import WatchedHouse, refused, served

SIGN = ("--aws-sigv4", "aws:amz:eu-west-1:execute-api", "--user", f"{ACCESS_KEY}:{SECRET_KEY}")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedHouse]:
    def change(configuration: dict[str, Any]) -> None:
        general = configuration["routes"][0]
        configuration["routes"].append({**general, "name": "told", "path": "/told/**", "deny_detail": "reason"})

    house = WatchedHouse(tmp_path_factory.mktemp("house"), change=change)
    try:
        yield house.start()
    finally:
        house.close()


def curl(house: WatchedHouse, path: str, *arguments: str, token: bool = True) -> tuple[int, str]:
    """The status and the body (or head) that curl saw."""
    command = [
        "curl",
        "--silent",
        "--show-error",
        "--max-time",
        "10",
        "--noproxy",
        "*",
        "--cacert",
        str(house.staff.path),
    ]
    command += ["--cert", str(house.bob.certificate), "--key", str(house.bob.key), "--write-out", "\n%{http_code}"]
    if token:
        bearer = house.tokens.token()
        house.keep_secret(bearer)
        command += ["--oauth2-bearer", bearer]
    command += [*arguments, f"https://localhost:{house.ports['edge']}{path}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    house.heard += done.stdout.encode()
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


@pytest.fixture(scope="module")
def upload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("upload") / "file"
    file.write_bytes(b"0123456789abcdef" * 200_000)
    return file


@pytest.mark.parametrize(
    "arguments", [(), ("--http1.1",), ("--http1.0",), ("--http2",), ("--tlsv1.3",), ("--tls-max", "1.2")]
)
def test_get(house: WatchedHouse, arguments: tuple[str, ...]) -> None:
    with house.expecting(*served(), forwarded=1):
        assert curl(house, "/orders/42?b=1&a", *arguments)[0] == 200
    assert house.upstream.requests[-2].line == b"GET /orders/42?b=1&a HTTP/1.1"


@pytest.mark.parametrize("arguments", [(), ("-H", "Transfer-Encoding: chunked"), ("-H", "Expect: 100-continue")])
def test_post(house: WatchedHouse, arguments: tuple[str, ...]) -> None:
    with house.expecting(*served(), forwarded=1):
        status, _ = curl(house, "/orders", "--data-binary", '{"item": 42}', *arguments)
    assert status == 200
    received = house.upstream.requests[-2]
    chunked = "chunked" in "".join(arguments)
    assert received.body == (b'c\r\n{"item": 42}\r\n0\r\n\r\n' if chunked else b'{"item": 42}')
    assert received.values(b"expect") == []


@pytest.mark.parametrize("arguments", [(), ("-H", "Expect:")])
def test_a_large_upload(house: WatchedHouse, upload: Path, arguments: tuple[str, ...]) -> None:
    """Above 1 MiB this curl waits for `100 Continue` unless told not to."""
    with house.expecting(*served(), forwarded=1):
        assert curl(house, "/orders/file", "-T", str(upload), *arguments)[0] == 200
    received = house.upstream.requests[-2]
    assert received.line == b"PUT /orders/file HTTP/1.1"
    assert hashlib.sha256(received.body).digest() == hashlib.sha256(upload.read_bytes()).digest()


def test_a_refused_upload_is_answered_before_it_is_sent(house: WatchedHouse, upload: Path) -> None:
    with house.expecting(refused("authz.denied-explicit")):
        status, _ = curl(house, "/x/admin/file", "-T", str(upload), "-H", "Expect: 100-continue")
    assert status == 403


def test_head(house: WatchedHouse) -> None:
    with house.expecting(*served(), forwarded=1):
        status, head = curl(house, "/orders/42", "--head")
    assert status == 200
    assert "Content-Length: 48" in head


def test_two_requests_on_one_connection(house: WatchedHouse) -> None:
    port = house.ports["edge"]
    with house.expecting(*served() * 2, forwarded=2):
        assert curl(house, "/orders/1", f"https://localhost:{port}/orders/2", "--fail")[0] == 200
    ports = {record["network"]["peer_port"] for record in house.records("access.decided")[-3:-1]}
    assert len(ports) == 1


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        ("/orders/42", ()),
        ("/orders/42?b=2&a=1", ()),
        ("/orders/42?flag", ()),
        ("/orders/a%20b", ()),
        ("/orders", ("--data-binary", '{"item": 42}', "-H", "Content-Type: application/json")),
        ("/orders/42", ("-X", "DELETE")),
        ("/orders/42", ("--head",)),
    ],
)
def test_what_curl_signs_is_let_in(house: WatchedHouse, path: str, arguments: tuple[str, ...]) -> None:
    with house.expecting(*served(), forwarded=1):
        assert curl(house, path, *SIGN, *arguments, token=False)[0] == 200
    assert house.upstream.requests[-2].values(b"x-ztproxy-method") == [b"sigv4+certificate"]


def test_what_curl_signs_wrong_stays_denied_and_names_itself(house: WatchedHouse, upload: Path) -> None:
    """This curl signs an empty body for `-T`."""
    small = upload.with_name("small")
    small.write_bytes(b"hello")
    with house.expecting(refused("authn.sigv4-mismatch")):
        status, body = curl(house, "/told/file", *SIGN, "-T", str(small), token=False)
    assert status == 403
    assert "`curl -T`" in body


def test_a_content_type_that_curl_adds_by_itself_is_not_signed(house: WatchedHouse) -> None:
    """Whoever could change it on the way could change what the body means."""
    with house.expecting(refused("authn.sigv4-unsigned")):
        status, body = curl(house, "/told/orders", *SIGN, "--data-binary", "item=42", token=False)
    assert status == 403
    assert "content-type" in body


def test_another_secret_is_refused(house: WatchedHouse) -> None:
    sign = (*SIGN[:-1], f"{ACCESS_KEY}:another-secret-key-that-opens-nothing")
    with house.expecting(refused("authn.sigv4-mismatch")):
        assert curl(house, "/orders/42", *sign, token=False)[0] == 403
