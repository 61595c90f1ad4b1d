"""What records say: every field classed, every byte canonical, no credential, every text bounded."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from ztproxy.audit.record import (
    COMPLETED,
    FIELDS,
    TARGET_MAX,
    TEXT_MAX,
    Sensitivity,
    bounded,
    decided,
    ended,
    event_body,
    failed_connection,
    fingerprint,
    identity_fragment,
    milliseconds,
    network_fragment,
    sensitivity,
)
from ztproxy.audit.seal import NotCanonical, Sealer, canonical, genesis
from ztproxy.types import AuditRecord, Decision, Effect, Identity, NearMiss, NetworkContext, StatementRef

AT = datetime(2025, 11, 1, 12, 0, 0, 250_000, tzinfo=UTC)
AT_MS = 1_761_998_400_250
NETWORK = NetworkContext(
    listener="public",
    peer="203.0.113.9",
    peer_port=51234,
    balancer="10.0.0.5",
    vpce_id="vpce-0a1b",
    sni="api.example.com",
    alpn="http/1.1",
    tls_version="TLSv1.3",
)
READ = StatementRef(source="policies/orders.json", line=12, sid="ReadOrders", policy_kind="resource")
WRITE = StatementRef(source="policies/orders.json", line=20, sid=None, policy_kind="resource")
MISS = NearMiss(
    statement=WRITE, element="Condition", key="aws:sourcevpce", operator="StringEquals", expected=("vpce-1",), seen=None
)


def identity(**changes: Any) -> Identity:
    fields: dict[str, Any] = {
        "subject": "alice",
        "kind": "jwt",
        "issuer": "https://login.example.com",
        "method": "jwt+certificate",
        "authenticated_at": AT,
        "expires_at": AT,
        "groups": ("orders-readers",),
        "principals": ("Federated:https://login.example.com",),
    }
    return Identity(**{**fields, **changes})


def decide(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "request_id": "r-1",
        "at_ms": AT_MS,
        "network": network_fragment(NETWORK),
        "code": "allowed",
        "generation": 3,
        "method": "GET",
        "host": "api.example.com",
        "path": "/orders/42",
        "action": "execute-api:Invoke",
        "resource": "arn:aws:execute-api:eu-west-1:111122223333:orders/prod/GET/orders/42",
        "route": "orders",
        "identity": identity_fragment(identity()),
        "decision": Decision(effect=Effect.ALLOW, deciding=(READ,), digest="sha256:ab"),
    }
    return decided(**{**fields, **changes})


DENIED = Decision(
    effect=Effect.IMPLICIT_DENY, misses=(MISS, MISS, MISS, MISS), errors=("condition broke",), digest="sha256:ab"
)
BODIES = {
    "allowed": decide(),
    "denied": decide(code="authz.denied-implicit", decision=DENIED),
    "unknown": decided(
        request_id="r-2", at_ms=AT_MS, network=network_fragment(NETWORK), code="route.none", generation=1
    ),
    "ended": ended(
        request_id="r-1",
        at_ms=AT_MS,
        code="upstream.truncated",
        status=200,
        bytes_in=1,
        bytes_out=2,
        duration_us=3,
        upstream="https://a:1",
        detail="gone",
    ),
    "failed": failed_connection(
        at_ms=AT_MS, code="protocol.tls", detail="no shared cipher", listener="public", peer="192.0.2.1", peer_port=9
    ),
    "event": event_body(AuditRecord(event="process.started", facts={"version": "1", "pid": 7}), at_ms=AT_MS),
}


def fields(value: Any, prefix: str = "") -> set[str]:
    if isinstance(value, list):
        return {field for item in value for field in fields(item, prefix)}
    if not isinstance(value, dict):
        return set()
    own = {prefix + name for name in value}
    return own.union(*(fields(member, f"{prefix}{name}.") for name, member in value.items()))


class TestEveryBody:
    @pytest.mark.parametrize("name", BODIES)
    def test_is_canonical(self, name: str) -> None:
        assert canonical(json.loads(BODIES[name])) == BODIES[name]

    @pytest.mark.parametrize("name", BODIES)
    def test_has_only_classed_fields(self, name: str) -> None:
        assert {field for field in fields(json.loads(BODIES[name])) if field not in FIELDS} == set()

    def test_no_field_of_the_table_is_secret(self) -> None:
        assert Sensitivity.SECRET not in FIELDS.values()

    def test_an_unclassed_field_counts_as_secret(self) -> None:
        assert sensitivity("bearer") is Sensitivity.SECRET
        assert sensitivity("path") is Sensitivity.SENSITIVE
        assert sensitivity("code") is Sensitivity.PUBLIC


class TestDecided:
    def test_says_who_asked_for_what_and_why_it_was_allowed(self) -> None:
        assert json.loads(BODIES["allowed"]) == {
            "action": "execute-api:Invoke",
            "at": AT_MS,
            "code": "allowed",
            "deciding": [{"kind": "resource", "sid": "ReadOrders", "source": "policies/orders.json:12"}],
            "detail": "",
            "effect": "allow",
            "errors": [],
            "event": "access.decided",
            "generation": 3,
            "host": "api.example.com",
            "id": "r-1",
            "identity": {
                "account": None,
                "authenticated_at": AT_MS,
                "expires_at": AT_MS,
                "groups": ["orders-readers"],
                "issuer": "https://login.example.com",
                "jti": None,
                "kind": "jwt",
                "method": "jwt+certificate",
                "principals": ["Federated:https://login.example.com"],
                "subject": "alice",
                "token": None,
            },
            "method": "GET",
            "misses": [],
            "network": {
                "alpn": "http/1.1",
                "balancer": "10.0.0.5",
                "listener": "public",
                "peer": "203.0.113.9",
                "peer_port": 51234,
                "sni": "api.example.com",
                "tls": "TLSv1.3",
                "vpce": "vpce-0a1b",
            },
            "path": "/orders/42",
            "policy": "sha256:ab",
            "resource": "arn:aws:execute-api:eu-west-1:111122223333:orders/prod/GET/orders/42",
            "route": "orders",
            "v": 1,
        }

    def test_a_denial_names_errors_and_at_most_three_near_misses(self) -> None:
        body = json.loads(BODIES["denied"])
        assert (body["effect"], body["errors"]) == ("implicit_deny", ["condition broke"])
        assert body["misses"] == 3 * [
            {
                "element": "Condition",
                "expected": ["vpce-1"],
                "key": "aws:sourcevpce",
                "operator": "StringEquals",
                "seen": None,
                "statement": {"kind": "resource", "sid": None, "source": "policies/orders.json:20"},
            }
        ]

    def test_a_miss_shows_what_was_seen(self) -> None:
        miss = NearMiss(statement=WRITE, element="Action", seen=("s3:GetObject",))
        body = json.loads(decide(decision=Decision(effect=Effect.EXPLICIT_DENY, misses=(miss,))))
        assert body["misses"][0]["seen"] == ["s3:GetObject"]

    def test_an_allow_keeps_no_misses(self) -> None:
        body = json.loads(decide(decision=Decision(effect=Effect.ALLOW, misses=(MISS,))))
        assert body["misses"] == []

    def test_an_attempt_without_identity_or_decision_is_a_record_too(self) -> None:
        body = json.loads(BODIES["unknown"])
        assert (body["identity"], body["route"], body["effect"], body["policy"]) == (None, None, "none", "")


class TestText:
    def test_short_text_stays(self) -> None:
        assert bounded("häuser\u2028\n") == "häuser\u2028\n"

    def test_long_text_keeps_its_start_length_and_hash(self) -> None:
        kept = bounded("x" * (TEXT_MAX + 1))
        assert kept.startswith("x" * TEXT_MAX + "...[1025 characters, sha256 ")
        assert bounded("x" * TEXT_MAX + "y") != kept

    def test_lone_surrogates_are_escaped(self) -> None:
        assert bounded("a\udc80b") == "a\\udc80b"

    def test_the_longest_legal_target_is_kept_whole(self) -> None:
        path = "/" + "p" * (TARGET_MAX - 1)
        assert json.loads(decide(path=path))["path"] == path

    @pytest.mark.parametrize("field", ["path", "resource", "method", "host", "action", "detail", "request_id"])
    def test_everything_longer_is_cut(self, field: str) -> None:
        value = json.loads(decide(**{field: "x" * (TARGET_MAX + 1)}))["id" if field == "request_id" else field]
        assert value.endswith("]")
        assert len(value) < TARGET_MAX + 100

    @pytest.mark.parametrize("field", ["path", "host", "detail"])
    def test_text_utf8_cannot_carry_is_escaped_and_nothing_else_changes(self, field: str) -> None:
        body = decide(**{field: "a\udc80b"}, decision=DENIED)
        assert canonical(json.loads(body)) == body
        assert json.loads(body) == {**json.loads(decide(decision=DENIED)), field: "a\\udc80b"}

    def test_long_lists_say_how_many_there_were(self) -> None:
        many = json.loads(identity_fragment_text(groups=("g",) * 2000))["groups"]
        assert (len(many), many[-1]) == (1025, "...[2000 values]")
        wide = json.loads(identity_fragment_text(groups=("g" * 1000,) * 20))["groups"]
        assert (len(wide), wide[-1]) == (13, "...[20 values]")

    def test_the_worst_record_still_fits_a_line(self) -> None:
        evil = "\x01" * 20_000
        lists = (evil,) * 500
        miss = NearMiss(statement=WRITE, element="Condition", key=evil, expected=lists, seen=lists)
        body = decide(
            network=network_fragment(NetworkContext(listener="l", peer=evil, peer_port=1, sni=evil)),
            identity=identity_fragment(identity(subject=evil, issuer=evil, groups=lists, principals=lists)),
            decision=Decision(effect=Effect.EXPLICIT_DENY, misses=(miss,) * 9, errors=lists, deciding=(READ,) * 99),
            **dict.fromkeys(("path", "resource", "method", "host", "action", "detail"), evil),
        )
        assert Sealer(genesis("c")).seal(body).endswith(b'"seq":1}\n')


def identity_fragment_text(**changes: Any) -> bytes:
    return canonical(identity_fragment(identity(**changes)))


class TestCredentials:
    def test_a_token_is_64_bits_of_its_hash(self) -> None:
        assert fingerprint(b"secret-token") == "930bbdc51b6aed5c"
        body = canonical(identity_fragment(identity(), token=fingerprint(b"t"), jti=fingerprint(b"j")))
        assert json.loads(body)["token"] == fingerprint(b"t")
        assert json.loads(body)["jti"] == fingerprint(b"j")

    def test_an_event_refuses_what_nobody_classed(self) -> None:
        with pytest.raises(ValueError, match="`token` has no class"):
            event_body(AuditRecord(event="x", facts={"token": "t"}), at_ms=1)
        with pytest.raises(ValueError, match=r"`identity\.bearer` has no class"):
            event_body(AuditRecord(event="x", facts={"identity": {"bearer": "t"}}), at_ms=1)


class TestEventBody:
    def test_bounds_text_at_every_depth(self) -> None:
        facts = {"detail": "x" * 2000, "errors": ["\ud800"], "identity": {"groups": ("a",)}, "pid": 1}
        body = json.loads(event_body(AuditRecord(event="process.started", facts=facts), at_ms=AT_MS))
        assert body["errors"] == ["\\ud800"]
        assert body["detail"].endswith("]")
        assert body["identity"] == {"groups": ["a"]}
        assert (body["event"], body["at"], body["pid"], body["v"]) == ("process.started", AT_MS, 1, 1)

    def test_refuses_values_without_canonical_form(self) -> None:
        with pytest.raises(NotCanonical):
            event_body(AuditRecord(event="x", facts={"pid": 1.5}), at_ms=1)


def test_ended_and_failed_say_what_happened() -> None:
    assert json.loads(BODIES["ended"]) == {
        "at": AT_MS,
        "bytes_in": 1,
        "bytes_out": 2,
        "code": "upstream.truncated",
        "detail": "gone",
        "duration_us": 3,
        "event": "access.ended",
        "id": "r-1",
        "status": 200,
        "upstream": "https://a:1",
        "v": 1,
    }
    assert json.loads(BODIES["failed"]) == {
        "at": AT_MS,
        "code": "protocol.tls",
        "detail": "no shared cipher",
        "event": "connection.failed",
        "id": None,
        "listener": "public",
        "peer": "192.0.2.1",
        "peer_port": 9,
        "v": 1,
    }


def test_milliseconds_count_from_1970() -> None:
    assert milliseconds(AT) == AT_MS


@pytest.mark.parametrize("detail", ["", "reset"])
@pytest.mark.parametrize("upstream", ["http://127.0.0.1:9000", "https://[::1]:8443", 'http://"x"', "", None])
def test_the_short_form_of_an_end_is_canonical_too(upstream: str | None, detail: str) -> None:
    made = ended(
        request_id="boot-1",
        at_ms=1_700_000_000_123,
        code=COMPLETED,
        status=200,
        bytes_in=1,
        bytes_out=2**40,
        duration_us=123,
        upstream=upstream,
        detail=detail,
    )
    assert made == canonical(json.loads(made))
    assert (json.loads(made)["upstream"], json.loads(made)["detail"]) == (upstream, detail)
