"""S11: canary credentials sent through every path of the proxy show in no answer, no log line and no record."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fakes.proxy import SECRET_KEY
from tests.fakes.signing import signature_of, signed
from tests.fakes.upstream import Upstream, raw
from tests.fakes.watch import NOBODY, WatchedHouse

BASIC = base64.b64encode(b"bob:canary-password-in-basic").decode()
COOKIE = "session=canary-cookie-value-0123456789"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedHouse]:
    broken = Upstream(answer=raw(b"nonsense\r\n\r\n", close=True))

    def change(configuration: dict[str, Any]) -> None:
        general = configuration["routes"][0]
        configuration["routes"] += [
            {**general, "name": "broken", "path": "/broken/**", "upstream": {"url": f"http://127.0.0.1:{broken.port}"}},
            {**general, "name": "told", "path": "/told/**", "deny_detail": "full"},
        ]

    house = WatchedHouse(tmp_path_factory.mktemp("house"), change=change)
    house.secrets.update(text.encode() for text in (BASIC, "canary-password-in-basic", COOKIE))
    try:
        yield house.start()
    finally:
        house.close()
        broken.close()


def plain(line: str, *fields: str, **claims: Any) -> Callable[[WatchedHouse], bytes]:
    def make(house: WatchedHouse) -> bytes:
        return house.request(line, *fields, token=house.tokens.token(**claims))

    return make


def by_signature(line: str, **how: Any) -> Callable[[WatchedHouse], bytes]:
    def make(house: WatchedHouse) -> bytes:
        request = signed(line, **how)
        house.keep_secret(signature_of(request))
        return request

    return make


def by_broken(change: Callable[[str], str]) -> Callable[[WatchedHouse], bytes]:
    def make(house: WatchedHouse) -> bytes:
        return house.request("GET /told/x", token=change(house.tokens.token()))

    return make


PATHS: dict[str, Callable[[WatchedHouse], bytes]] = {
    "allowed": plain("GET /orders", f"Cookie: {COOKIE}"),
    "denied": plain("DELETE /orders", f"Cookie: {COOKIE}"),
    "denied-and-told": plain("DELETE /told/x", f"Cookie: {COOKIE}"),
    "denied-explicitly": plain("GET /told/admin/x"),
    "no-route": lambda house: house.request().replace(b"Host: localhost", b"Host: nowhere.example"),
    "malformed-target": plain("GET /a/../b"),
    "malformed-head": plain("GET /a", "X A: 1"),
    "two-hosts": plain("GET /a", "Host: localhost"),
    "too-large": plain("GET /a", "X-A: " + "a" * 20_000),
    "forged": plain("GET /told/x", forged=True),
    "expired": plain("GET /told/x", exp=1),
    "another-issuer": plain("GET /told/x", iss="https://evil.test"),
    "bad-groups": plain("GET /told/x", groups=[{"a": 1}]),
    "cut-in-half": by_broken(lambda token: token[: len(token) // 2]),
    "not-base64": by_broken(lambda token: token.replace(".", ".!")),
    "four-parts": by_broken(lambda token: token + "." + token),
    "basic": lambda house: house.request("GET /told/x", f"Authorization: Basic {BASIC}", token=""),
    "twice": lambda house: house.request("GET /told/x", f"Authorization: Basic {BASIC}"),
    "upstream-broken": plain("GET /broken/x", f"Cookie: {COOKIE}"),
    "signed": by_signature("GET /orders"),
    "signed-wrong": by_signature("GET /told/x", secret=SECRET_KEY + "-almost"),
    "signed-unknown": by_signature("GET /told/x", key_id="AKIDTESTEXAMPLE9"),
    "signed-elsewhere": by_signature("GET /told/x", region="us-east-1"),
    "signed-denied": by_signature("GET /told/admin/x"),
    "signed-half": lambda house: by_signature("GET /told/x")(house).replace(b"SignedHeaders", b"SignedHead"),
}


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
@pytest.mark.parametrize("kind", PATHS)
def test_no_path_shows_a_secret(house: WatchedHouse, kind: str, accept: str) -> None:
    request = PATHS[kind](house)
    request = request.replace(b"\r\n\r\n", f"\r\nAccept: {accept}\r\n\r\n".encode(), 1)
    sent = re.findall(rb"(?im)^(?:Authorization|Cookie): (.*)\r$", request)
    assert sent
    for value in sent:
        house.secrets.add(value)
    for leaf in (house.bob, NOBODY):
        house.ask_on(house.dial(leaf), request)
    assert len(house.heard) > 100
    assert house.leaks() == []


def test_the_watch_would_see_one(house: WatchedHouse) -> None:
    """The search above finds what is there: a path, which is no secret, stands in answers and records alike."""
    house.ask("GET /orders/not-a-secret-at-all")
    house.secrets.add(b"/orders/not-a-secret-at-all")
    try:
        assert house.leaks() == [b"/orders/not-a-secret-at-all"]
    finally:
        house.secrets.discard(b"/orders/not-a-secret-at-all")


def test_neither_check_nor_a_crash_of_the_configuration_shows_one(house: WatchedHouse) -> None:
    broken = house.folder / "broken.yaml"
    for old, new in (('"version": 1', '"version": 9'), ('"eu-west-1"', '"nowhere"'), ("/secret", "/secret-not-there")):
        broken.write_text(house.file.read_text().replace(old, new))
        command = [sys.executable, "-m", "ztproxy", "check", str(broken)]
        done = subprocess.run(command, check=False, capture_output=True)
        assert done.returncode == 2
        house.heard += done.stdout + done.stderr
    assert house.leaks() == []
