"""The scripted tour behind `ztproxy demo --check`: what the README promises, tried from outside.

Each step is a real exchange with the running proxy, seen the way a client sees it, and ends in a `Step` that holds
what came back; then the proxy is stopped and its audit spool is verified and searched. A step never raises for what
a peer does wrong: that is a failed step, and the tour goes on, so that one run shows everything that is broken.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from ztproxy.dev.caller import Reply, fetch_token, send
from ztproxy.dev.oidc import PERSONAS
from ztproxy.dev.stage import MACHINE, Stage
from ztproxy.dev.state import DemoError, DemoNote

ALLOWED_PATH: Final = "/orders/42"
TAMPERED_PATH: Final = "/orders/43"
NEAR_MISSES: Final = ("DevelopersRead", "AdminsDoEverything")
"""Statements that come close to letting bob delete; a good reason names one."""
VERIFIED_WITHIN_S: Final = 10.0
MAX_RECORD_BYTES: Final = 1024 * 1024
MAX_SEEN: Final = 160

Verdict = tuple[bool, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One promise and what was seen of it."""

    name: str
    ok: bool
    seen: str


async def tour(stage: Stage) -> AsyncIterator[Step]:
    """The steps as they finish; the proxy is stopped when the last one is through."""
    client = _Client(stage.note)
    for name, act in (
        (f"bob gets {ALLOWED_PATH}", client.allowed),
        (f"bob may not delete {ALLOWED_PATH}, and learns why", client.denied),
        ("a token with groups added after signing", client.forged),
        ("a caller without a certificate", client.without_certificate),
        ("a request signed by botocore (SigV4)", client.signed),
        ("the same signature on another path", client.tampered),
    ):
        yield await asyncio.to_thread(_tried, name, act)
    status = await stage.stop_proxy()
    yield Step(name="the proxy stops when asked", ok=status == 0, seen=f"exit status {status}")
    yield await _verified(stage.folder.spool)
    search = partial(recorded, stage.folder.spool, client.allowed_id, client.denied_id)
    yield await asyncio.to_thread(_tried, "both decisions stand in the record", search)


class _Client:
    """The client's side of the tour; remembers the ids it was told."""

    def __init__(self, note: DemoNote) -> None:
        self._note = note
        self.allowed_id = ""
        self.denied_id = ""

    def allowed(self) -> Verdict:
        reply = self._send_as_bob("GET", self._bearer())
        self.allowed_id = forwarded_id(reply)
        return reply.status == 200 and "order" in reply.json, described(reply)

    def denied(self) -> Verdict:
        reply = self._send_as_bob("DELETE", self._bearer())
        self.denied_id = refused_id(reply)
        problem = reply.headers.get("content-type", "").startswith("application/problem+json")
        told = bool(self.denied_id) and any(sid in reply.body.decode(errors="replace") for sid in NEAR_MISSES)
        return reply.status == 403 and problem and told, described(reply)

    def forged(self) -> Verdict:
        reply = self._send_as_bob("DELETE", {"Authorization": f"Bearer {forged(self._token())}"})
        return reply.status == 401 and "www-authenticate" in reply.headers, described(reply)

    def without_certificate(self) -> Verdict:
        reply = send(self._note, "GET", ALLOWED_PATH, certificate_of=None, headers=self._bearer())
        return reply.status == 401, described(reply)

    def signed(self) -> Verdict:
        reply = send(self._note, "GET", ALLOWED_PATH, certificate_of=MACHINE, headers=self._signature())
        return reply.status == 200 and "order" in reply.json, described(reply)

    def tampered(self) -> Verdict:
        reply = send(self._note, "GET", TAMPERED_PATH, certificate_of=MACHINE, headers=self._signature())
        error = reply.headers.get("x-amzn-errortype", "")
        as_aws = error == "InvalidSignatureException" == reply.json.get("__type")
        return reply.status == 403 and as_aws, described(reply)

    def _token(self) -> str:
        return fetch_token(self._note, "bob").reveal().decode()

    def _bearer(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self._token()}"}

    def _signature(self) -> Mapping[str, str]:
        key = self._note.access_keys[MACHINE]
        request = AWSRequest("GET", self._note.url + ALLOWED_PATH)
        signer = SigV4Auth(Credentials(key.id, key.secret.reveal().decode()), key.service, key.region)
        signer.add_auth(request)
        return dict(request.headers.items())

    def _send_as_bob(self, method: str, headers: Mapping[str, str]) -> Reply:
        return send(self._note, method, ALLOWED_PATH, certificate_of="bob", headers=headers)


def forged(token: str) -> str:
    """The token with another payload under the same signature: its bearer is now an admin."""
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    changed = json.dumps({**claims, "groups": ["admin"]}, separators=(",", ":")).encode()
    return f"{header}.{base64.urlsafe_b64encode(changed).rstrip(b'=').decode()}.{signature}"


def forwarded_id(reply: Reply) -> str:
    """The id of the decision as the proxy told the sample API, which shows what it saw; empty when it told none."""
    try:
        told = reply.json["seen"]["identity"]["x-ztproxy-request-id"]
    except (KeyError, TypeError):
        return ""
    return told if isinstance(told, str) else ""


def refused_id(reply: Reply) -> str:
    """The id of a refusal, where field and body agree on it; else empty."""
    told = reply.headers.get("x-ztproxy-id", "")
    return told if told == reply.json.get("id") else ""


def described(reply: Reply) -> str:
    """The reply in a few words, whoever wrote it."""
    words = [str(reply.status)]
    for name in ("code", "__type", "detail", "message", "reason"):
        value = reply.json.get(name)
        if isinstance(value, str) and value not in words:
            words.append(value)
    text = "  ".join(words)
    text = "".join(sign if sign.isprintable() else "?" for sign in text)
    return text if len(text) <= MAX_SEEN else text[: MAX_SEEN - 3] + "..."


def recorded(spool: Path, allowed_id: str, denied_id: str) -> Verdict:
    """Whether the spool holds bob's allowed call with its end, and his denial without one, each once."""
    found: dict[str, list[str]] = {allowed_id: [], denied_id: []}
    for body in records(spool):
        if body.get("id") in found and (body["event"] == "access.ended" or _is_bobs(body)):
            found[body["id"]].append(body.get("effect") or body["event"])
    ok = found == {allowed_id: ["allow", "access.ended"], denied_id: ["implicit_deny"]}
    return ok, ", ".join(f"{told or 'no id'}: {' '.join(seen) or 'nothing'}" for told, seen in found.items())


def _is_bobs(body: Mapping[str, Any]) -> bool:
    caller = body.get("identity") or {}
    return caller.get("subject") == PERSONAS["bob"].email and body.get("path") == ALLOWED_PATH


def records(spool: Path) -> Iterator[Mapping[str, Any]]:
    """The body of every record in the spool.

    Raises: `OSError`; `ValueError` for a line that is no record.
    """
    for path in sorted(spool.glob("*.jsonl")):
        with path.open("rb") as file:
            while line := file.readline(MAX_RECORD_BYTES):
                yield _body(line)


def _body(line: bytes) -> Mapping[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    body = record.get("body") if isinstance(record, dict) else None
    if not isinstance(body, dict):
        raise ValueError("the spool holds a line that is no record")
    return body


def verify_command(spool: Path) -> tuple[str, ...]:
    """How the spool is verified: as anybody would."""
    return sys.executable, "-m", "ztproxy", "audit", "verify", str(spool)


async def _verified(spool: Path) -> Step:
    name = "the audit chain verifies"
    child = await asyncio.create_subprocess_exec(
        *verify_command(spool),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(VERIFIED_WITHIN_S):
            output, _ = await child.communicate()
    except TimeoutError:
        child.kill()
        await child.wait()
        return Step(name=name, ok=False, seen=f"`audit verify` took longer than {VERIFIED_WITHIN_S:g} s")
    said = output.decode(errors="replace").strip().splitlines() or [f"exit status {child.returncode}"]
    # a report begins with its result, a usage error ends with it
    told = said[0] if child.returncode in (0, 1) else said[-1]
    return Step(name=name, ok=child.returncode == 0, seen=told[:MAX_SEEN])


def _tried(name: str, act: Callable[[], Verdict]) -> Step:
    try:
        ok, seen = act()
    except (OSError, HTTPException, DemoError, ValueError, KeyError) as error:
        ok, seen = False, f"{type(error).__name__}: {error}"
    return Step(name=name, ok=ok, seen=seen)
