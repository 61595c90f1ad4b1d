"""What a record says: the nouns of the house turned into canonical bodies, cheaply.

The parts that outlive a request are serialised once (`network_fragment` per connection, `identity_fragment` per
verified identity) and pasted in as `orjson.Fragment`; what is left is one `orjson.dumps` of a dict whose keys are
written here in canonical order, so nothing is sorted, walked or copied twice on the hot path. Text is bounded on the
way in; text that UTF-8 cannot carry makes `dumps` refuse, and only then everything is escaped.

INVARIANT: every field stands in `FIELDS` with a class. A field without one counts as secret, and a secret has no
place in a record: `event_body` refuses it, and the tests hold the other builders to the same table. A token enters as
`fingerprint` of its bytes at most.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum
from hashlib import sha256
from typing import Any, Final

import orjson
from orjson import Fragment

from ztproxy.audit.seal import canonical
from ztproxy.types import AuditRecord, Decision, Identity, NearMiss, NetworkContext, StatementRef

SCHEMA: Final = 1
"""Version of these fields; in every record as `v`."""
ALLOWED: Final = "allowed"
"""Code of an `access.decided` that let the request through."""
COMPLETED: Final = "completed"
"""Code of an `access.ended` where everything was delivered."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9:/.\[\]_-]*", re.ASCII)
"""Text that is its own JSON string."""

TEXT_MAX: Final = 1024
TARGET_MAX: Final = 8192
"""A path or resource is kept whole up to the longest request line, so that a decision can be made again from it."""
LIST_CHARACTERS_MAX: Final = 12 * 1024
"""Of one list: more than the claims of the longest token hold, so that an identity is kept whole."""
ITEMS_MAX: Final = 1024
DECIDING_MAX: Final = 64
MISSES_MAX: Final = 3


class Sensitivity(Enum):
    """Who may read a field without further reason."""

    PUBLIC = "public"
    SENSITIVE = "sensitive"
    SECRET = "secret"  # noqa: S105


_PUBLIC: Final = """
    action at bytes_in bytes_out code duration_us effect event generation host id listener method policy resource route
    status upstream v
    deciding deciding.kind deciding.sid deciding.source
    misses misses.element misses.key misses.operator
    misses.statement misses.statement.kind misses.statement.sid misses.statement.source
    identity identity.authenticated_at identity.expires_at identity.issuer identity.kind identity.method
    network network.alpn network.balancer network.listener network.sni network.tls network.vpce
    config_digest pid version workers
    buffered cause cut_bytes cut_offset cut_sha256 error from refused segment until
"""
_SENSITIVE: Final = """
    detail errors path peer peer_port
    identity.account identity.groups identity.jti identity.principals identity.subject identity.token
    misses.expected misses.seen
    network.peer network.peer_port
"""
FIELDS: Final[Mapping[str, Sensitivity]] = {
    **dict.fromkeys(_PUBLIC.split(), Sensitivity.PUBLIC),
    **dict.fromkeys(_SENSITIVE.split(), Sensitivity.SENSITIVE),
}
"""Every field a record may have, by its path from the top; lists do not add to a path."""


def sensitivity(field: str) -> Sensitivity:
    """The class of a field; one nobody classed is secret."""
    return FIELDS.get(field, Sensitivity.SECRET)


def milliseconds(at: datetime) -> int:
    """An aware time in milliseconds since 1970, to the nearest."""
    return round(at.timestamp() * 1000)


def fingerprint(token: bytes) -> str:
    """What a record may say of a token: the first 64 bits of its SHA-256, enough to find it again by one who has it."""
    return sha256(token).hexdigest()[:16]


def bounded(text: str, limit: int = TEXT_MAX) -> str:
    """Text that fits a record: UTF-8 can carry it; beyond `limit` characters a length and a hash stand for the rest."""
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raw = text.encode(errors="backslashreplace")
        text = raw.decode()
    if len(text) <= limit:
        return text
    return f"{text[:limit]}...[{len(text)} characters, sha256 {sha256(raw).hexdigest()[:16]}]"


def _optional(text: str | None) -> str | None:
    return None if text is None else bounded(text)


def _texts(items: tuple[str, ...]) -> list[str]:
    kept: list[str] = []
    room = LIST_CHARACTERS_MAX
    for item in items[:ITEMS_MAX]:
        text = bounded(item)
        room -= len(text)
        if room < 0:
            break
        kept.append(text)
    if len(kept) < len(items):
        kept.append(f"...[{len(items)} values]")
    return kept


def network_fragment(network: NetworkContext) -> Fragment:
    """The `network` part of a record; made once per connection."""
    return Fragment(
        canonical(
            {
                "alpn": _optional(network.alpn),
                "balancer": _optional(network.balancer),
                "listener": bounded(network.listener),
                "peer": bounded(network.peer),
                "peer_port": network.peer_port,
                "sni": _optional(network.sni),
                "tls": _optional(network.tls_version),
                "vpce": _optional(network.vpce_id),
            }
        )
    )


def identity_fragment(identity: Identity, *, token: str | None = None, jti: str | None = None) -> Fragment:
    """The `identity` part of a record; made once per identity and kept with it. `token` and `jti` are fingerprints."""
    return Fragment(
        canonical(
            {
                "account": _optional(identity.account),
                "authenticated_at": milliseconds(identity.authenticated_at),
                "expires_at": milliseconds(identity.expires_at),
                "groups": _texts(identity.groups),
                "issuer": bounded(identity.issuer),
                "jti": _optional(jti),
                "kind": bounded(identity.kind),
                "method": bounded(identity.method),
                "principals": _texts(identity.principals),
                "subject": bounded(identity.subject),
                "token": _optional(token),
            }
        )
    )


def _statement(statement: StatementRef) -> dict[str, str | None]:
    return {
        "kind": statement.policy_kind,
        "sid": statement.sid,
        "source": f"{statement.source}:{statement.line}",
    }


def _miss(miss: NearMiss) -> dict[str, Any]:
    return {
        "element": miss.element,
        "expected": _texts(miss.expected),
        "key": _optional(miss.key),
        "operator": _optional(miss.operator),
        "seen": None if miss.seen is None else _texts(miss.seen),
        "statement": _statement(miss.statement),
    }


def decided(
    *,
    request_id: str,
    at_ms: int,
    network: Fragment,
    code: str,
    generation: int,
    method: str = "",
    host: str = "",
    path: str = "",
    action: str = "",
    resource: str = "",
    route: str | None = None,
    identity: Fragment | None = None,
    decision: Decision | None = None,
    detail: str = "",
) -> bytes:
    """The body of `access.decided`: one per attempt, with whatever was known when it was decided.

    `code` is `ALLOWED` or one of `errors.CODES`; without a decision the effect is `none`. Misses are kept on a denial.
    """
    deciding: list[dict[str, str | None]] = []
    misses: list[dict[str, Any]] = []
    errors: list[str] = []
    effect = "none"
    digest = ""
    if decision is not None:
        effect = decision.effect.value
        digest = decision.digest
        deciding = [_statement(statement) for statement in decision.deciding[:DECIDING_MAX]]
        if effect != "allow":
            misses = [_miss(miss) for miss in decision.misses[:MISSES_MAX]]
        if decision.errors:
            errors = _texts(decision.errors)
    if len(path) > TARGET_MAX:
        path = bounded(path, TARGET_MAX)
    if len(resource) > TARGET_MAX:
        resource = bounded(resource, TARGET_MAX)
    if len(method) + len(host) + len(action) + len(detail) + len(request_id) > TEXT_MAX:
        method, host, action, detail, request_id = map(bounded, (method, host, action, detail, request_id))
    return _body(
        {
            "action": action,
            "at": at_ms,
            "code": code,
            "deciding": deciding,
            "detail": detail,
            "effect": effect,
            "errors": errors,
            "event": "access.decided",
            "generation": generation,
            "host": host,
            "id": request_id,
            "identity": identity,
            "method": method,
            "misses": misses,
            "network": network,
            "path": path,
            "policy": digest,
            "resource": resource,
            "route": route,
            "v": SCHEMA,
        }
    )


def ended(
    *,
    request_id: str,
    at_ms: int,
    code: str,
    status: int,
    bytes_in: int,
    bytes_out: int,
    duration_us: int,
    upstream: str | None,
    detail: str = "",
) -> bytes:
    """The body of `access.ended`: one per grant, under the id of its decision; `code` is `COMPLETED` or an error's."""
    if detail or upstream is None or not _PLAIN.fullmatch(upstream) or not _PLAIN.fullmatch(request_id):
        return _body(
            {
                "at": at_ms,
                "bytes_in": bytes_in,
                "bytes_out": bytes_out,
                "code": code,
                "detail": bounded(detail) if detail else "",
                "duration_us": duration_us,
                "event": "access.ended",
                "id": request_id,
                "status": status,
                "upstream": upstream,
                "v": SCHEMA,
            }
        )
    return (
        f'{{"at":{at_ms},"bytes_in":{bytes_in},"bytes_out":{bytes_out},"code":"{code}","detail":"",'
        f'"duration_us":{duration_us},"event":"access.ended","id":"{request_id}","status":{status},'
        f'"upstream":"{upstream}","v":{SCHEMA}}}'
    ).encode()


def failed_connection(
    *, at_ms: int, code: str, detail: str, listener: str, peer: str, peer_port: int, request_id: str | None = None
) -> bytes:
    """The body of `connection.failed`: a preamble or handshake that never became a request."""
    return _body(
        {
            "at": at_ms,
            "code": code,
            "detail": bounded(detail),
            "event": "connection.failed",
            "id": request_id,
            "listener": listener,
            "peer": bounded(peer),
            "peer_port": peer_port,
            "v": SCHEMA,
        }
    )


def event_body(record: AuditRecord, *, at_ms: int) -> bytes:
    """The body of any rarer event: `process.started`, `process.stopped`, `audit.recovered`, ...

    Raises: `ValueError` for a fact without a class or without a canonical form.
    """
    body = {**_plain(record.facts, ""), "at": at_ms, "event": record.event, "v": SCHEMA}
    return canonical(body)


def _plain(facts: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in facts.items():
        field = prefix + name
        if sensitivity(field) is Sensitivity.SECRET:
            raise ValueError(f"field `{field}` has no class, so it counts as secret")
        kept[name] = _value(value, field)
    return kept


def _value(value: Any, field: str) -> Any:
    if isinstance(value, str):
        return bounded(value)
    if isinstance(value, Mapping):
        return _plain(value, field + ".")
    if isinstance(value, list | tuple):
        return [_value(item, field) for item in value]
    return value


def _body(fields: dict[str, Any]) -> bytes:
    try:
        return _dumps(fields)
    except orjson.JSONEncodeError:
        return canonical(_escaped(fields))


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return bounded(value, TARGET_MAX * 2)
    if isinstance(value, dict):
        return {name: _escaped(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_escaped(member) for member in value]
    return value


_dumps: Final[Callable[[dict[str, Any]], bytes]] = orjson.dumps
