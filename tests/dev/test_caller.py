"""A client of the demo: tokens from the real issuer, requests over real TLS, curl's configuration as curl reads it."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.dev.scripted import Answer, Asked, demo_note, demo_pki, https
from ztproxy.dev.ca import Pki
from ztproxy.dev.caller import Reply, curl_config, fetch_token, send
from ztproxy.dev.oidc import OidcIssuer
from ztproxy.dev.state import DemoError, DemoNote, NotRunning
from ztproxy.types import Secret


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return demo_pki(tmp_path_factory.mktemp("tls"))


def with_issuer(pki: Pki, name: str, made: OidcIssuer, *, secret: bytes | None = None) -> Secret:
    async def run() -> Secret:
        async with made.serving():
            own = made.client_secret.reveal() if secret is None else secret
            note = demo_note(pki, 1, token_url=made.token_url, client_secret=own)
            return await asyncio.to_thread(fetch_token, note, name)

    return asyncio.run(run())


def test_a_token_comes_from_the_issuer(pki: Pki) -> None:
    token = with_issuer(pki, "ada", OidcIssuer())
    assert token.reveal().count(b".") == 2


def test_without_an_issuer_the_demo_does_not_run(pki: Pki) -> None:
    with pytest.raises(NotRunning, match="does not answer"):
        fetch_token(demo_note(pki, 1), "bob")


@pytest.mark.parametrize("fault", ["stranger", "secret", "garbage", "fail_status"])
def test_a_refusal_of_the_issuer_is_one_clear_error(pki: Pki, fault: str) -> None:
    made = OidcIssuer()
    made.garbage = fault == "garbage"
    made.fail_status = 500 if fault == "fail_status" else None
    name = "mallory" if fault == "stranger" else "bob"
    with pytest.raises(DemoError, match=f"no token for `{name}`"):
        with_issuer(pki, name, made, secret=b"wrong" if fault == "secret" else None)


def echo(asked: Asked) -> Answer:
    return 200, {"X-Seen": f"{asked.person} {asked.method} {asked.target}"}, b'{"body": "%s"}' % asked.body


def test_a_request_carries_the_persons_certificate(pki: Pki) -> None:
    with https(pki, echo) as port:
        reply = send(demo_note(pki, port), "DELETE", "/orders/42", certificate_of="eve")
        assert (reply.status, reply.headers["x-seen"]) == (200, "eve DELETE /orders/42")
        assert send(demo_note(pki, port), "GET", "/", certificate_of=None).headers["x-seen"] == "None GET /"


def test_another_authoritys_proxy_is_not_spoken_to(pki: Pki, tmp_path: Path) -> None:
    other = demo_pki(tmp_path / "other")
    with https(other, echo) as port, pytest.raises(ssl.SSLCertVerificationError):
        send(demo_note(pki, port), "GET", "/orders/42", certificate_of="bob")


@pytest.mark.parametrize(("body", "value"), [(b'{"a": 1}', {"a": 1}), (b"[1]", {}), (b"<html>", {}), (b"\xff", {})])
def test_a_body_is_a_json_object_or_nothing(body: bytes, value: object) -> None:
    assert Reply(status=200, headers={}, body=body).json == value


def curl(
    note: DemoNote, name: str, path: str, token: Secret | None, *options: str
) -> subprocess.CompletedProcess[bytes]:
    config = curl_config(note, name, path, token)
    return subprocess.run(
        ["curl", "-q", "-K", "-", *options], input=config, capture_output=True, timeout=20, check=False
    )


def test_curl_sends_certificate_and_token(pki: Pki) -> None:
    seen: list[Asked] = []

    def script(asked: Asked) -> Answer:
        seen.append(asked)
        return 200, {}, b"hello\n"

    with https(pki, script) as port:
        result = curl(demo_note(pki, port), "bob", "/orders/[4-5]?q={a}%20", Secret(b"a.b-_.c"), "-X", "DELETE")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"hello\n", b"HTTP 200\n")
    assert [(asked.method, asked.target, asked.person) for asked in seen] == [
        ("DELETE", "/orders/[4-5]?q={a}%20", "bob")
    ]
    assert seen[0].headers["authorization"] == "Bearer a.b-_.c"
    assert seen[0].headers["host"] == f"localhost:{port}"


def test_curl_signs_for_the_machine(pki: Pki) -> None:
    seen: list[Asked] = []

    def script(asked: Asked) -> Answer:
        seen.append(asked)
        return 200, {}, b""

    with https(pki, script) as port:
        assert curl(demo_note(pki, port), "ci", "/orders/42", None).returncode == 0
    assert seen[0].person == "ci"
    authorization = seen[0].headers["authorization"]
    assert authorization.startswith("AWS4-HMAC-SHA256 Credential=ZTPROXYDEMOACCESSKEY/")
    assert "/eu-west-1/execute-api/aws4_request" in authorization
    assert "key-secret" not in str(seen)


def test_curl_takes_the_credentials_to_no_other_server(pki: Pki) -> None:
    seen: list[Asked] = []

    def script(asked: Asked) -> Answer:
        seen.append(asked)
        if asked.headers["host"].startswith("localhost"):
            return 302, {"Location": "https://127.0.0.1:1/elsewhere"}, b""
        return 200, {}, b""

    with https(pki, script) as port:
        result = curl(demo_note(pki, port), "bob", "/", Secret(b"t"), "-L", "https://elsewhere.example.com/x")
    assert [asked.headers["host"] for asked in seen] == [f"localhost:{port}", "127.0.0.1:1"]
    assert "authorization" not in seen[1].headers
    assert b"elsewhere.example.com" in result.stderr


def test_a_quote_in_a_path_does_not_end_the_value(pki: Pki) -> None:
    seen: list[str] = []

    def script(asked: Asked) -> Answer:
        seen.append(asked.target)
        return 200, {}, b""

    with https(pki, script) as port:
        curl(demo_note(pki, port), "bob", '/a"\\b', Secret(b"t"))
    assert seen == ['/a"\\b']


@pytest.mark.parametrize("path", ["/a b", "/a\nurl = x", "/a\x00", "/\x7f", "a", "", "https://elsewhere.example.com/"])
def test_a_path_that_is_none_is_refused(pki: Pki, path: str) -> None:
    with pytest.raises(DemoError, match=r"is no path|control character"):
        curl_config(demo_note(pki, 1), "bob", path, Secret(b"t"))
