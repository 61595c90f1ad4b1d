"""The pattern of an allowed record says byte for byte what the record builder says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztproxy.audit import record
from ztproxy.audit.pattern import AllowedPattern
from ztproxy.types import Decision, Effect, Identity, NetworkContext, StatementRef

AT = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
STANDING: dict[str, Any] = {
    "network": record.network_fragment(NetworkContext(listener="edge", peer="203.0.113.9", peer_port=4000)),
    "identity": record.identity_fragment(
        Identity(
            subject='100 % of "bob"',
            kind="jwt",
            issuer="corp",
            method="jwt",
            authenticated_at=AT,
            expires_at=AT,
            groups=("%s", "\\u0000"),
        )
    ),
    "route": "orders",
    "action": "execute-api:Invoke",
    "generation": 7,
    "decision": Decision(
        effect=Effect.ALLOW,
        deciding=(StatementRef(source="orders.yaml", line=3, sid="Readers", policy_kind="resource"),),
        digest="d" * 64,
    ),
}
PATTERN = AllowedPattern(**STANDING)


def check(**asked: Any) -> None:
    assert PATTERN.body(**asked) == record.decided(code=record.ALLOWED, **STANDING, **asked)


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("api.example.com", "/orders/42"),
        ("api.example.com", "/a%22b/%5C/%E2%82%AC"),
        ("api.example.com", '/a"b'),
        ("api.example.com", "/a\\b"),
        ("b\u00fccher.example", "/"),
        ("api.example.com", "/\u20ac"),
        ("api.example.com", "/" + "x" * 9000),
    ],
)
def test_the_same_bytes_as_the_builder(host: str, path: str) -> None:
    check(request_id="boot-1f", at_ms=1_700_000_000_123, method="GET", host=host, path=path, resource=f"arn/GET{path}")


@given(
    path=st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    host=st.text(st.characters(min_codepoint=0x2D, max_codepoint=0x7A, exclude_characters="\\"), max_size=20),
    at_ms=st.integers(0, 2**50),
)
def test_any_path_any_time(path: str, host: str, at_ms: int) -> None:
    check(request_id="boot-2", at_ms=at_ms, method="PUT", host=host, path=path, resource=f"arn/PUT{path}")
