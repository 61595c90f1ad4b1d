"""Signature Version 4, read and verified: parameters, string to sign, key derivation, comparison.

```
canonical request --sha256--> string to sign --HMAC with signing key--> signature
signing key = HMAC(HMAC(HMAC(HMAC("AWS4" + secret, date), region), service), "aws4_request")
```

No identity and no policy: whose key it is, which scope is right and how old a signature may be is decided in
`authn/sigv4.py`, in the order AWS checks. Public texts are AWS's own words, because users search for those. They
never repeat a whole `Authorization` value: its signature is good until it ages out.

Source: IAM User Guide, "Signature Version 4"; error texts as AWS services send them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from ztproxy.errors import Unauthenticated
from ztproxy.wire.sigv4_canonical import RawHeaders

ALGORITHM: Final = b"AWS4-HMAC-SHA256"
TERMINATOR: Final = b"aws4_request"
EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest().encode()
CONTENT_SHA256: Final = b"x-amz-content-sha256"

MAX_AUTHORIZATION_BYTES: Final = 4096
"""Far above what a signer makes; bounds the work of an unauthenticated caller."""

MAX_SIGNED_HEADERS: Final = 128
"""More fields than the door lets in; bounds what is remembered of one list."""

_HEX_SHA256: Final = re.compile(rb"[0-9a-f]{64}")
_BASIC_TIME: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z", re.ASCII)
_HTTP_DATE: Final = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) "
    r"([0-9]{2}):([0-9]{2}):([0-9]{2}) (?:GMT|UTC|[+-]0000)"
)
# What nearly every signer writes; any other order or spacing takes the longer way to the same result.
_USUAL_ORDER: Final = re.compile(rb"AWS4-HMAC-SHA256 Credential=([^\s,]+), ?SignedHeaders=([^\s,]+), ?")
_PARAMETERS: Final = frozenset((b"Credential", b"SignedHeaders", b"Signature"))
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_QUERY_FORM: Final = re.compile(rb"(?:^|&)x-amz-(?:algorithm|credential|signature|signedheaders)=", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SignedHeaders:
    """The names a signature covers: lower case, sorted, each once."""

    listed: bytes
    """`host;x-amz-date`, as it is signed."""
    members: frozenset[bytes]
    labels: tuple[tuple[bytes, bytes], ...]
    """Each name and `<name>:`, in order."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a signature says of itself; nothing of it is verified. The same for request after request of one signer."""

    credential: bytes
    """`<access key id>/<date>/<region>/<service>/aws4_request`, its shape not yet checked."""
    access_key_id: bytes
    """What precedes the first slash of the credential."""
    scope: bytes
    """What follows it."""
    signed_headers: SignedHeaders


@dataclass(frozen=True, slots=True)
class Timestamp:
    """When a request was signed: as an instant, and in the form that is signed."""

    at: datetime
    basic: bytes
    """`yyyymmddThhmmssZ`."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a signing key is good for."""

    date: bytes
    """`yyyymmdd`, UTC."""
    region: bytes
    service: bytes
    terminator: bytes


def is_sigv4(authorization: bytes) -> bool:
    """Whether an `Authorization` value claims a signature of this family, whatever its algorithm."""
    return authorization[:5].upper() == b"AWS4-"


def needs_body(raw_headers: RawHeaders) -> bool:
    """Whether the body must be read and hashed before the signature can be verified.

    True when no `x-amz-content-sha256` declares what was signed.
    """
    return not any(name.lower() == CONTENT_SHA256 for name, _ in raw_headers)


def declared_body_sha256(raw_headers: RawHeaders) -> str | None:
    """The hex hash that the signature covers and the real body must have; None: no single hash is declared."""
    values = [value.strip() for name, value in raw_headers if name.lower() == CONTENT_SHA256]
    if len(values) != 1 or not is_sha256(values[0]):
        return None
    return values[0].decode()


def is_sha256(value: bytes) -> bool:
    """Whether this is a hash in lower-case hex, as opposed to `UNSIGNED-PAYLOAD` and its kin."""
    return _HEX_SHA256.fullmatch(value) is not None


def is_query_form(query: bytes) -> bool:
    """Whether a canonical query carries signature parameters, in any case of letters."""
    return b"x-amz-" in query.lower() and _QUERY_FORM.search(query) is not None


def parse_authorization(fields: Mapping[bytes, bytes]) -> tuple[Claim, bytes, bytes]:
    """The claim, the signature and the date (`X-Amz-Date`, else `Date`) of the header form.

    Raises: `Unauthenticated`. Source: checks 3 to 6 of AWS's order.
    """
    value = fields[b"authorization"].strip()
    if len(value) > MAX_AUTHORIZATION_BYTES:
        raise _incomplete(f"Authorization header is longer than {MAX_AUTHORIZATION_BYTES} bytes.")
    date = fields.get(b"x-amz-date")
    if date is None:
        date = fields.get(b"date")
    usual, _, signature = value.rpartition(b"Signature=")
    if date is not None and b"," not in signature and (claim := _usual_claim(usual)) is not None:
        return claim, signature, date.strip()
    algorithm, _, listed = value.partition(b" ")
    if algorithm != ALGORITHM:
        raise _incomplete(f"Unsupported AWS 'algorithm': '{shown(algorithm)}'.")
    found: dict[bytes, bytes] = {}
    for item in listed.split(b","):
        name, equals, content = item.strip().partition(b"=")
        if not equals:
            raise _incomplete(
                f"'{shown(name)}' not a valid key=value pair (missing equal-sign) in Authorization header"
            )
        # STRICTER: AWS takes the last of a repeated parameter and passes over unknown ones.
        if name in found:
            raise _incomplete(f"Authorization header has more than one '{shown(name)}' parameter.")
        found[name] = content
    if date is None or found.keys() != _PARAMETERS:
        raise _incomplete(_what_is_wrong(found, date))
    return _claim(found[b"Credential"], found[b"SignedHeaders"]), found[b"Signature"], date.strip()


@lru_cache(maxsize=128)
def _usual_claim(authorization: bytes) -> Claim | None:
    """The claim in all of an `Authorization` value but the signature; None: not in the usual order."""
    match = _USUAL_ORDER.fullmatch(authorization)
    return None if match is None else _claim(match[1], match[2])


def _claim(credential: bytes, listed: bytes) -> Claim:
    access_key_id, _, scope = credential.partition(b"/")
    return Claim(credential, access_key_id, scope, parse_signed_headers(listed))


def _what_is_wrong(found: Mapping[bytes, bytes], date: bytes | None) -> str:
    faults = [
        f"Authorization header requires '{name.decode()}' parameter." for name in sorted(_PARAMETERS - found.keys())
    ]
    if date is None:
        faults.append("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
    if faults:
        return " ".join([*faults, f"Authorization={ALGORITHM.decode()}"])
    return f"Authorization header has an unknown parameter '{shown(min(found.keys() - _PARAMETERS))}'."


def parse_signed_headers(listed: bytes) -> SignedHeaders:
    """The names in a `SignedHeaders` parameter.

    Raises: `Unauthenticated` unless they are lower case, sorted and each there once, as every signer writes them.
    """
    names = listed.split(b";")
    if len(names) > MAX_SIGNED_HEADERS:
        raise _incomplete(f"'SignedHeaders' names more than {MAX_SIGNED_HEADERS} fields.")
    # STRICTER: another order would be another spelling of the same signature.
    if names != sorted(set(names)) or listed != listed.lower():
        raise _incomplete("'SignedHeaders' must be lower case, sorted and without repetition.")
    return SignedHeaders(listed, frozenset(names), tuple((name, name + b":") for name in names))


def require_signed(fields: Mapping[bytes, bytes], signed: SignedHeaders) -> None:
    """Demand that the signature covers `host`, every `x-amz-*` field and, if there is one, `content-type`.

    Raises: `Unauthenticated` naming the first field left out.
    """
    members = signed.members
    if b"host" not in members:
        raise _unsigned("'Host' or ':authority'")
    for name in fields:
        # STRICTER: only S3 insists on every `x-amz-*`; whoever adds one on the way would go unnoticed elsewhere.
        if name not in members and (name.startswith(b"x-amz-") or name == b"content-type"):
            raise _unsigned(f"'{shown(name)}'")


@lru_cache(maxsize=256)
def parse_timestamp(date: bytes) -> Timestamp:
    """When the request says it was signed: ISO 8601 basic, or the date of HTTP.

    Raises: `Unauthenticated` when it is neither, or no such instant exists.
    """
    text = date.decode("latin-1")
    try:
        if _BASIC_TIME.fullmatch(text) is not None:
            return Timestamp(datetime.fromisoformat(text), date)
        if (match := _HTTP_DATE.fullmatch(text)) is not None:
            day, month, year, hour, minute, second = match.groups()
            at = datetime(
                int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC
            )
            return Timestamp(at, basic_time(at).encode())
    except ValueError:
        pass
    raise _incomplete(
        f"Date must be in ISO-8601 'basic format'. Got '{shown(date)}'. See http://en.wikipedia.org/wiki/ISO_8601"
    )


def basic_time(at: datetime) -> str:
    """An instant as signatures write it: `20150830T123600Z`."""
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def parse_scope(credential: bytes) -> Scope:
    """The scope in a `Credential` parameter, its values not yet judged.

    Raises: `Unauthenticated` unless there are five parts.
    """
    parts = credential.split(b"/")
    if len(parts) != 5:
        raise _incomplete(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term,"
            f" got '{shown(credential)}'"
        )
    return Scope(*parts[1:])


def derive_signing_key(secret: bytes, date: bytes, region: bytes, service: bytes) -> bytes:
    """The key that signs in one scope; costs four HMACs, so callers keep it for the day."""
    key = hmac.digest(b"AWS4" + secret, date, "sha256")
    key = hmac.digest(key, region, "sha256")
    key = hmac.digest(key, service, "sha256")
    return hmac.digest(key, TERMINATOR, "sha256")


def keyed(signing_key: bytes) -> hmac.HMAC:
    """An HMAC that has taken in its key; copying one costs less than keying another."""
    return hmac.new(signing_key, digestmod="sha256")


def string_to_sign(timestamp: bytes, scope: bytes, canonical: bytes) -> bytes:
    """What the signing key signs; `scope` is `<date>/<region>/<service>/aws4_request`."""
    return b"\n".join((ALGORITHM, timestamp, scope, sha256_hex(canonical).encode()))


def sha256_hex(content: bytes) -> str:
    """A hash as signatures write it: lower-case hex."""
    return hashlib.sha256(content).hexdigest()


def signature_matches(signing_key: hmac.HMAC, signed_text: bytes, presented: bytes) -> bool:
    """Whether `presented` is the hex signature of `signed_text`, in time that does not depend on where they differ."""
    mac = signing_key.copy()
    mac.update(signed_text)
    return hmac.compare_digest(mac.hexdigest().encode(), presented)


def shown(raw: bytes) -> str:
    """Untrusted bytes for a message: ASCII, one line, at most 64 characters."""
    return ascii(raw[:64].decode("latin-1"))[1:-1]


def _incomplete(public: str) -> Unauthenticated:
    return Unauthenticated("authn.sigv4-incomplete", public)


def _unsigned(field: str) -> Unauthenticated:
    return Unauthenticated("authn.sigv4-unsigned", f"{field} must be a 'SignedHeader' in the AWS Authorization.")
