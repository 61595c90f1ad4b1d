"""The tour passes in front of a proxy that keeps every promise, and names each promise a lying one breaks.

The proxy here is a script with switches for its lies; `tests/cli/test_demo.py` takes the tour through the real one.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from tests.dev.scripted import Answer, Asked, demo_note, demo_pki, https
from ztproxy.dev import tour as tour_module
from ztproxy.dev.api import OrdersApi
from ztproxy.dev.ca import Pki
from ztproxy.dev.caller import Reply
from ztproxy.dev.oidc import OidcIssuer
from ztproxy.dev.stage import Stage
from ztproxy.dev.state import StateFolder
from ztproxy.dev.tour import Step, described, forged, forwarded_id, records, refused_id, tour

ALLOWED = "bob gets /orders/42"
DENIED = "bob may not delete /orders/42, and learns why"
FORGED = "a token with groups added after signing"
NO_CERTIFICATE = "a caller without a certificate"
SIGNED = "a request signed by botocore (SigV4)"
TAMPERED = "the same signature on another path"
STOPPED = "the proxy stops when asked"
VERIFIED = "the audit chain verifies"
RECORDED = "both decisions stand in the record"
EVERYTHING = [ALLOWED, DENIED, FORGED, NO_CERTIFICATE, SIGNED, TAMPERED, STOPPED, VERIFIED, RECORDED]


@dataclass(kw_only=True)
class Proxy:
    """A proxy that is honest but for its lies."""

    issuer: OidcIssuer
    spool: Path
    lies: frozenset[str]
    count: int = 0
    signed_path: str = ""
    written: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, asked: Asked) -> Answer:
        self.count += 1
        told = f"id-{self.count}"
        authorization = asked.headers.get("authorization", "")
        if asked.person is None and "no certificate needed" not in self.lies:
            return self._problem(401, told, "authn.certificate-missing")
        if authorization.startswith("AWS4-HMAC-SHA256 "):
            self.signed_path = self.signed_path or asked.target
            if asked.target != self.signed_path and "any signature" not in self.lies:
                body = {"__type": "InvalidSignatureException", "message": "the signature does not match"}
                error = "" if "no errortype" in self.lies else "InvalidSignatureException"
                return 403, {"x-amzn-errortype": error}, json.dumps(body).encode()
            return self._order()
        try:
            keys = KeySet.import_key_set(self.issuer.jwks)  # type: ignore[arg-type]
            jwt.decode(authorization.removeprefix("Bearer "), keys, algorithms=["RS256"])
        except JoseError:
            if "any token" not in self.lies:
                return self._problem(401, told, "authn.token-signature")
        allowed = asked.method == "GET" or "everybody deletes" in self.lies
        self._record("access.decided", told, effect="allow" if allowed else "implicit_deny", asked=asked)
        if allowed:
            self._record("access.ended", told)
            return self._order(told)
        if "other id" in self.lies:
            told = "made-up"
        return self._problem(403, told, "" if "no reason" in self.lies else "nearest: AdminsDoEverything")

    def _order(self, told: str = "") -> Answer:
        seen = {} if "id untold" in self.lies else {"x-ztproxy-request-id": told}
        body = json.dumps({"order": {}, "seen": {"identity": seen}}).encode()
        return (500, {}, b"") if "broken" in self.lies else (200, {}, body)

    def _problem(self, status: int, told: str, detail: str) -> Answer:
        kind = "text/html" if "html" in self.lies else "application/problem+json"
        body = json.dumps({"id": told, "detail": detail}).encode()
        headers = {"Content-Type": kind, "X-Ztproxy-Id": told}
        return status, headers | ({"WWW-Authenticate": "Bearer"} if status == 401 else {}), body

    def _record(self, event: str, told: str, *, effect: str = "", asked: Asked | None = None) -> None:
        body: dict[str, Any] = {"event": event, "id": told, "at": int(time.time() * 1000)}
        if asked is not None:
            caller = {"subject": "eve@example.com" if "other name" in self.lies else "bob@example.com"}
            body |= {"effect": effect, "identity": caller, "method": asked.method, "path": asked.target}
        if event not in self.lies and not ("denials unrecorded" in self.lies and effect == "implicit_deny"):
            with (self.spool / "chain-00000000000000000001.jsonl").open("a") as file:
                file.write(json.dumps({"body": body, "seq": 1}) + "\n")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return demo_pki(tmp_path_factory.mktemp("tls"))


def take(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    pki: Pki,
    *lies: str,
    verify: str = "print('intact: 3 records\\nnote: more')",
) -> list[Step]:
    folder = StateFolder(tmp_path)
    folder.spool.mkdir()
    (folder.spool / "lock").touch()
    monkeypatch.setattr(tour_module, "verify_command", lambda spool: (sys.executable, "-c", verify))
    status = 1 if "stops badly" in lies else 0

    async def run() -> list[Step]:
        issuer = OidcIssuer()
        script = Proxy(issuer=issuer, spool=folder.spool, lies=frozenset(lies))
        program = f"import sys; sys.stdin.read(); sys.exit({status})"
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdin=pipe)
        assert child.stdin is not None
        child.stdin.close()
        await child.wait()
        async with issuer.serving():
            with https(pki, script) as port:
                secret = issuer.client_secret.reveal()
                token_url = "http://127.0.0.1:1/" if "issuer down" in lies else issuer.token_url
                note = demo_note(pki, port, token_url=token_url, client_secret=secret)
                up = Stage(folder=folder, note=note, issuer=issuer, api=OrdersApi(), proxy=child)
                return [step async for step in tour(up)]

    return asyncio.run(run())


def broken(steps: list[Step]) -> list[str]:
    assert [step.name for step in steps] == EVERYTHING
    return [step.name for step in steps if not step.ok]


def test_an_honest_proxy_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pki: Pki) -> None:
    steps = take(monkeypatch, tmp_path, pki)
    assert broken(steps) == []
    assert [step.seen for step in steps] == [
        "200",
        "403  nearest: AdminsDoEverything",
        "401  authn.token-signature",
        "401  authn.certificate-missing",
        "200",
        "403  InvalidSignatureException  the signature does not match",
        "exit status 0",
        "intact: 3 records",
        "id-1: allow access.ended, id-2: implicit_deny",
    ]


@pytest.mark.parametrize(
    ("lie", "names"),
    [
        ("broken", [ALLOWED, SIGNED, RECORDED]),
        ("id untold", [RECORDED]),
        ("other name", [RECORDED]),
        ("everybody deletes", [DENIED, RECORDED]),
        ("html", [DENIED]),
        ("no reason", [DENIED]),
        ("other id", [RECORDED]),
        ("any token", [FORGED]),
        ("no certificate needed", [NO_CERTIFICATE]),
        ("any signature", [TAMPERED]),
        ("no errortype", [TAMPERED]),
        ("stops badly", [STOPPED]),
        ("access.decided", [RECORDED]),
        ("access.ended", [RECORDED]),
        ("denials unrecorded", [RECORDED]),
        ("issuer down", [ALLOWED, DENIED, FORGED, NO_CERTIFICATE, RECORDED]),
    ],
)
def test_each_lie_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pki: Pki, lie: str, names: list[str]
) -> None:
    assert broken(take(monkeypatch, tmp_path, pki, lie)) == names


@pytest.mark.parametrize(
    ("verify", "seen"),
    [
        ("import sys; print('BROKEN: 1 fault'); sys.exit('more')", "BROKEN: 1 fault"),
        ("import sys; print('Usage: ...'); print('Error: no spool'); sys.exit(2)", "Error: no spool"),
        ("import sys; sys.exit(1)", "exit status 1"),
        ("import time; time.sleep(60)", "`audit verify` took longer than 0.5 s"),
    ],
    ids=["broken", "no spool", "silent", "hangs"],
)
def test_a_chain_that_does_not_verify(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pki: Pki, verify: str, seen: str
) -> None:
    monkeypatch.setattr(tour_module, "VERIFIED_WITHIN_S", 0.5)
    steps = take(monkeypatch, tmp_path, pki, verify=verify)
    assert broken(steps) == [VERIFIED]
    assert [step.seen for step in steps if step.name == VERIFIED] == [seen]


def test_a_spool_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "chain-1.jsonl").write_text("no record\n")
    with pytest.raises(ValueError, match="no record"):
        list(records(tmp_path / "audit"))


def test_a_forged_token_differs_in_nothing_but_its_groups() -> None:
    issuer = OidcIssuer("https://login.example.com")
    token = issuer.mint("bob")
    header, payload, signature = forged(token).split(".")
    assert [header, signature] == [token.split(".")[0], token.split(".")[2]]
    keys = KeySet.import_key_set(issuer.jwks)  # type: ignore[arg-type]
    claims = jwt.decode(token, keys, algorithms=["RS256"]).claims
    assert forged(token) == f"{header}.{payload}.{signature}" != token
    assert json.loads(base64.urlsafe_b64decode(payload + "==")) == {**claims, "groups": ["admin"]}


@pytest.mark.parametrize(
    ("headers", "body", "told"),
    [
        ({"x-ztproxy-id": "a-1"}, b'{"id": "a-1"}', "a-1"),
        ({"x-ztproxy-id": "a-1"}, b'{"id": "a-2"}', ""),
        ({"x-ztproxy-id": "a-1"}, b"", ""),
        ({}, b'{"id": "a-1"}', ""),
    ],
)
def test_a_refusals_id_counts_when_field_and_body_agree(headers: Mapping[str, str], body: bytes, told: str) -> None:
    assert refused_id(Reply(status=403, headers=headers, body=body)) == told


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"seen": {"identity": {"x-ztproxy-request-id": "a-1"}}}', "a-1"),
        (b'{"seen": {"identity": {"x-ztproxy-request-id": 1}}}', ""),
        (b'{"seen": {"identity": {}}}', ""),
        (b'{"seen": 1}', ""),
        (b"", ""),
    ],
)
def test_an_allowed_calls_id_is_what_the_api_saw(body: bytes, told: str) -> None:
    assert forwarded_id(Reply(status=200, headers={}, body=body)) == told


def test_a_description_is_short_and_cannot_steer_a_terminal() -> None:
    body = json.dumps({"detail": "\x1b[31m" + "x" * 500}).encode()
    told = described(Reply(status=403, headers={}, body=body))
    assert told.startswith("403  ?[31mx")
    assert told.endswith("...")
    assert len(told) == tour_module.MAX_SEEN
