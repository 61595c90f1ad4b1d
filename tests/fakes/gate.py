"""A gate over a few routes, with people who prove themselves by a word, and a recorder that keeps everything."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from time import time
from typing import Any, cast

from ztproxy.audit.recorder import Recorder
from ztproxy.authn.chain import AuthenticationChain
from ztproxy.authz.index import build_policy_set
from ztproxy.authz.parse import parse_policy
from ztproxy.errors import AuditUnavailable
from ztproxy.gate import Gate
from ztproxy.routing import RouteTable
from ztproxy.types import (
    Ask,
    AuthenticationRule,
    DenyDetail,
    Evidence,
    Identity,
    NetworkContext,
    Route,
    RouteLimits,
    Secret,
)

ACCOUNT = "111122223333"
NETWORK = NetworkContext(
    listener="edge", peer="192.0.2.7", peer_port=40000, sni="api.test", facts={"aws:sourceip": "192.0.2.7"}
)
ISSUER = "https://login.test"
ANYONE: dict[str, Any] = {
    "Effect": "Allow",
    "Principal": "*",
    "Action": "execute-api:Invoke",
    "Resource": "*",
}


class MemoryRecorder:
    """Keeps records; refuses them, or what must be durable, when told to."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.refuses: Exception | None = None
        self.wait: Callable[[], Any] | None = None
        """Makes what a durable record is awaited by."""

    pending = False

    def flush(self) -> None:
        """Nothing waits here."""

    def append(self, body: bytes) -> None:
        """Keeps a record."""
        if self.refuses is not None:
            raise self.refuses
        self.bodies.append(json.loads(body))

    def durable(self, body: bytes) -> Any:
        """Keeps a record; done when the test says so."""
        self.append(body)
        assert self.wait is not None
        return self.wait()

    def of(self, event: str) -> list[dict[str, Any]]:
        """The records of an event."""
        return [body for body in self.bodies if body["event"] == event]


class WordOfHonour:
    """Whoever brings a token is whom the token names; `fails` is raised instead, `waits` awaited first."""

    name = "corp"

    def __init__(self) -> None:
        self.fails: BaseException | None = None
        self.waits: Any = None
        self.lasts_s = 3600.0
        self.asked = 0

    def recognises(self, evidence: Evidence) -> bool:
        """Every token is one of ours."""
        return evidence.bearer is not None

    async def identify(self, evidence: Evidence, network: NetworkContext, now: datetime) -> Identity:
        """Whoever the token names."""
        self.asked += 1
        if self.waits is not None:
            await self.waits
        if self.fails is not None:
            raise self.fails
        assert evidence.bearer is not None
        return Identity(
            subject=evidence.bearer.reveal().decode(),
            kind="jwt",
            issuer=ISSUER,
            method="jwt",
            authenticated_at=now,
            expires_at=now + timedelta(seconds=self.lasts_s),
            account=ACCOUNT,
            principals=(f"Federated:{ISSUER}",),
        )


class Confirming(WordOfHonour):
    """One whose word can be asked for again."""

    holds = True

    def confirms(self, evidence: Evidence, now: datetime) -> bool:
        """Whether it still holds."""
        return self.holds


class Later:
    """Something to wait for."""

    def __await__(self) -> Any:
        yield self


def unavailable() -> AuditUnavailable:
    """What a recorder raises that cannot write."""
    return AuditUnavailable("audit.unavailable", "the audit record cannot be written", detail="disk full")


def route(
    name: str = "orders",
    *,
    host: str = "api.test",
    anonymous: bool = False,
    audit_required: bool = False,
    deny_detail: DenyDetail | None = None,
    limits: RouteLimits | None = None,
) -> Route:
    """A route that demands a token, unless it is for anyone."""
    return Route(
        name=name,
        host=host,
        path="/**",
        arn=f"arn:aws:execute-api:eu-west-1:{ACCOUNT}:{name}/prod",
        account=ACCOUNT,
        upstream="http://127.0.0.1:9",
        authenticate=AuthenticationRule(anonymous=True) if anonymous else AuthenticationRule(any_of=("corp",)),
        audit_required=audit_required,
        deny_detail=deny_detail,
        limits=limits or RouteLimits(),
    )


def make_gate(
    recorder: object,
    *,
    routes: Sequence[Route] = (),
    statements: Sequence[dict[str, Any]] = (ANYONE,),
    authenticator: WordOfHonour | None = None,
    now: Callable[[], float] = time,
) -> Gate:
    """A gate whose routes all have the policy of these statements."""
    routes = routes or (route(),)
    text = json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, indent=1)
    policies = {
        each.name: parse_policy(text, file="orders.json", kind="resource", route_arn=each.arn) for each in routes
    }
    return Gate(
        routes=RouteTable(routes),
        chain=AuthenticationChain([authenticator or WordOfHonour()]),
        policies=build_policy_set(policies, []),
        recorder=cast(Recorder, recorder),
        generation=7,
        now=now,
    )


def ask(path: str = "/orders/42", *, method: str = "GET", host: str = "api.test") -> Ask:
    """A wish as the HTTP shell puts it."""
    return Ask(action="execute-api:Invoke", host=host, path=path, method=method, resource=method + path)


def bearer(name: str = "ada") -> Evidence:
    """A token that names somebody."""
    return Evidence(bearer=Secret(name.encode()))


NOBODY = Evidence()
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
