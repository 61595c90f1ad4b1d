"""A signed request proves the holder of an access key; the checks and their order are AWS's own.

escapes -> query -> any signature at all -> algorithm -> parameter syntax -> all parameters -> required fields signed ->
date -> age -> five scope parts -> scope values -> session token -> payload -> signature -> key known.

**Equal work.** An unknown access key id is verified against a stand-in key, canonical request, HMAC and comparison
included, before it is refused. Signing keys of a scope are derived for all callers and the stand-in at once, when the
scope is first seen that day, so that no request shows by its cost whether a key exists or is in use. Only the code
differs, as at AWS.

**Lifetime.** A signature says when it was made, not how long a session may be. Its age is judged when the request
comes, on every request of a connection; a download that began in time is not cut when the window closes. The identity
therefore lasts `LONGEST_EXCHANGE` from the time of signing, and the route's own limit usually ends the exchange first.

Source: IAM User Guide, "Signature Version 4" and "Troubleshoot signed requests"; "Common errors" of every service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hmac import HMAC
from types import MappingProxyType
from typing import Final

from ztproxy.errors import Unauthenticated
from ztproxy.types import Evidence, Facts, Identity, NetworkContext, Secret, SignedRequest
from ztproxy.wire import sigv4 as wire
from ztproxy.wire.sigv4_canonical import (
    Form,
    canonical_headers,
    canonical_path,
    canonical_query,
    canonical_request,
    read_fields,
    split_target,
)
from ztproxy.wire.sigv4_mismatch import MismatchedSignature

LONGEST_EXCHANGE: Final = timedelta(hours=12)
"""As long as the longest role session of AWS."""

LONGEST_SKEW_S: Final = 900
STS: Final = b"sts"
"""Clients sign for the region of their profile even at an endpoint of ours, and STS itself allows 15 minutes."""

_STAND_IN: Final = Secret(b"stands in for the secret of an access key id that does not exist")
_USUAL_FORM: Final = Form.NORMALIZED
_S3_FORM: Final = Form.OBJECT_KEY
_S3_SCOPE: Final = b"/s3/aws4_request"
_STAND_IN_ID: Final = b"/"
"""No access key id: in a credential it ends before the first slash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """A long-lived access key and the IAM user it stands for."""

    access_key_id: str
    secret: Secret
    user: str
    """User name."""
    arn: str
    """`arn:<partition>:iam::<account>:user/<user>`."""
    account: str
    user_id: str = ""
    """Unique id as AWS gives it (`AIDA...`); empty: the user name."""
    groups: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


class _Caller:
    """An access key's owner: everything about the identity that no request changes, and the identity last made."""

    __slots__ = ("_facts", "_key", "_last", "_principals")

    def __init__(self, key: AccessKey) -> None:
        self._key: Final = key
        self._principals: Final = (f"AWS:{key.arn}", f"AWS:{key.account}")
        self._facts: Final = _facts(key)
        self._last: Identity | None = None

    def identity(self, signed_at: datetime) -> Identity:
        """The identity for a request signed then; requests signed within one second share it."""
        last = self._last
        if last is None or last.authenticated_at != signed_at:
            key = self._key
            self._last = last = Identity(
                subject=key.arn,
                kind="sigv4",
                issuer="sigv4",
                method="sigv4",
                authenticated_at=signed_at,
                expires_at=signed_at + LONGEST_EXCHANGE,
                groups=key.groups,
                account=key.account,
                principals=self._principals,
                facts=self._facts,
            )
        return last


def _facts(key: AccessKey) -> Facts:
    """What policies see of an IAM user; `aws:MultiFactorAuthPresent` is absent for long-lived keys, as at AWS."""
    facts: dict[str, str | tuple[str, ...]] = {
        "aws:principalarn": key.arn,
        "aws:principalaccount": key.account,
        "aws:principaltype": "User",
        "aws:username": key.user,
        "aws:userid": key.user_id or key.user,
    }
    if key.groups:
        facts["ztproxy:groups"] = key.groups
    for tag, value in key.tags.items():
        facts[f"aws:principaltag/{tag.lower()}"] = value
    return MappingProxyType(facts)


class SigV4Authenticator:
    """Verifies the header form of Signature Version 4 against configured access keys."""

    name = "sigv4"

    def __init__(
        self, keys: Sequence[AccessKey], regions: frozenset[str], services: frozenset[str], skew_s: int = 300
    ) -> None:
        """Accept these keys in these scopes; `skew_s` is how far the time of signing may be from ours.

        Raises: `ValueError` for an empty restriction, a repeated or impossible access key id, a skew above 900 s.
        """
        self._callers: Final = {key.access_key_id.encode(): _Caller(key) for key in keys}
        self._secrets: Final = {key.access_key_id.encode(): key.secret for key in keys}
        if not keys or not regions or not services:
            raise ValueError("access keys, regions and services must each be named")
        if len(self._callers) != len(keys):
            raise ValueError("an access key id is there twice")
        if any(not caller or b"/" in caller or b"," in caller for caller in self._callers):
            raise ValueError("an access key id is empty or holds a separator")
        if not 0 < skew_s <= LONGEST_SKEW_S:
            raise ValueError(f"skew must be 1 to {LONGEST_SKEW_S} seconds")
        self._regions: Final = frozenset(region.encode() for region in regions)
        self._services: Final = frozenset(service.encode() for service in services)
        self._skew: Final = timedelta(seconds=skew_s)
        self._signing_keys: Final[dict[bytes, Mapping[bytes, HMAC]]] = {}
        # INVARIANT: the skew window touches at most two days, so live scopes always fit and callers cannot churn them.
        self._most_scopes: Final = 2 * len(regions) * len(services)

    def recognises(self, evidence: Evidence) -> bool:
        """Whether the request came signed."""
        return evidence.signed is not None

    async def identify(self, evidence: Evidence, network: NetworkContext, now: datetime) -> Identity:
        """The IAM user who signed the request; never suspends.

        Raises: `Unauthenticated`.
        """
        request = evidence.signed
        if request is None:
            raise _missing()
        fields = read_fields(request.raw_headers)
        authority, path, query = split_target(request.raw_target)
        prescribed_query = canonical_query(query)
        if b"authorization" not in fields:
            raise _query_form_closed() if wire.is_query_form(prescribed_query) else _missing()
        if query and wire.is_query_form(prescribed_query):
            raise Unauthenticated(
                "authn.sigv4-mismatch",
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter"
                " or the Authorization header should be specified",
            )
        claim, signature, date = wire.parse_authorization(fields)
        signed_headers = claim.signed_headers
        wire.require_signed(fields, signed_headers)
        if authority is not None and authority.lower() != fields.get(b"host", b"").strip().lower():
            raise Unauthenticated("authn.sigv4-unsigned", "the authority in the request target is not the signed host")
        timestamp = wire.parse_timestamp(date)
        if abs(now - timestamp.at) > self._skew:
            self._check_age(timestamp, now, claim)
        scope = claim.scope
        signing_keys = self._signing_keys.get(scope)
        if signing_keys is None or scope[:8] != timestamp.basic[:8]:
            signing_keys = self._open_scope(claim, timestamp)
        if b"x-amz-security-token" in fields:
            # Long-lived keys have no session token, so this one is not ours.
            raise _invalid_token("a session token came with a long-lived access key")
        payload_hash = _payload_hash(request, fields)
        try:
            headers = canonical_headers(fields, signed_headers.labels)
        except KeyError as absent:
            raise Unauthenticated(
                "authn.sigv4-mismatch",
                f"the signature covers '{wire.shown(absent.args[0])}', which the request does not carry",
            ) from None

        signing_key = signing_keys.get(claim.access_key_id) or signing_keys[_STAND_IN_ID]
        prescribed_path = canonical_path(path, _S3_FORM if scope.endswith(_S3_SCOPE) else _USUAL_FORM)
        signed_text = wire.string_to_sign(
            timestamp.basic,
            scope,
            canonical_request(
                method=request.method,
                path=prescribed_path,
                query=prescribed_query,
                headers=headers,
                signed_headers=signed_headers.listed,
                payload_hash=payload_hash,
            ),
        )
        mismatch = None
        if not wire.signature_matches(signing_key, signed_text, signature):
            mismatch = MismatchedSignature(
                method=request.method,
                path=path,
                query=query,
                prescribed_path=prescribed_path,
                prescribed_query=prescribed_query,
                headers=headers,
                signed_headers=signed_headers.listed,
                payload_hash=payload_hash,
                timestamp=timestamp.basic,
                scope=scope,
                signature=signature,
            ).explain(signing_key)
        # INVARIANT: the stand-in is in nobody's hands and opens nothing; without a caller there is no identity.
        caller = self._callers.get(claim.access_key_id)
        if caller is None:
            raise _invalid_token(f"access key id `{wire.shown(claim.access_key_id)}` is unknown")
        if mismatch is not None:
            raise mismatch
        if request.body_sha256 is not None and request.body_sha256.encode() != payload_hash:
            raise Unauthenticated(
                "authn.sigv4-body", "The provided 'x-amz-content-sha256' header does not match what was computed."
            )
        return caller.identity(timestamp.at)

    def _check_age(self, timestamp: wire.Timestamp, now: datetime, claim: wire.Claim) -> None:
        """Refuse a signature from outside the window, in AWS's words.

        Raises: `Unauthenticated`.
        """
        skew = self._skew
        if claim.scope.split(b"/")[2:3] == [STS]:
            skew = timedelta(seconds=LONGEST_SKEW_S)
        if abs(now - timestamp.at) <= skew:
            return
        seconds = int(skew.total_seconds())
        window = f"{seconds // 60} min." if seconds % 60 == 0 else f"{seconds} s"
        signed, ours = timestamp.basic.decode(), wire.basic_time(now)
        if timestamp.at < now:
            public = (
                f"Signature expired: {signed} is now earlier than {wire.basic_time(now - skew)} ({ours} - {window})"
            )
        else:
            limit = wire.basic_time(now + skew)
            public = f"Signature not yet current: {signed} is still later than {limit} ({ours} + {window})"
        raise Unauthenticated("authn.sigv4-expired", public)

    def _open_scope(self, claim: wire.Claim, timestamp: wire.Timestamp) -> Mapping[bytes, HMAC]:
        """Signing keys by access key id for a scope not seen before today, once its values are found right.

        Raises: `Unauthenticated`.
        """
        scope = wire.parse_scope(claim.credential)
        today = timestamp.basic[:8]
        listed = scope.region in self._regions
        faults = []
        if not listed and scope.service != STS:
            faults.append(f"Credential should be scoped to a valid region, not '{wire.shown(scope.region)}'.")
        if scope.service not in self._services:
            correct = ", ".join(sorted(service.decode() for service in self._services))
            faults.append(f"Credential should be scoped to correct service: '{correct}'.")
        if scope.terminator != wire.TERMINATOR:
            faults.append(
                "Credential should be scoped with a valid terminator: 'aws4_request',"
                f" not '{wire.shown(scope.terminator)}'."
            )
        if scope.date != today:
            faults.append(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP:"
                f" '{wire.shown(scope.date)}' != '{today.decode()}', from '{timestamp.basic.decode()}'."
            )
        if faults:
            raise Unauthenticated("authn.sigv4-scope", " ".join(faults))
        if not listed:
            # Any region is right for STS, so nothing is kept for one that only the caller has named.
            return {claim.access_key_id: _derive(self._secrets.get(claim.access_key_id, _STAND_IN), scope)}
        signing_keys = {each: _derive(secret, scope) for each, secret in self._secrets.items()}
        signing_keys[_STAND_IN_ID] = _derive(_STAND_IN, scope)
        while len(self._signing_keys) >= self._most_scopes:
            del self._signing_keys[next(iter(self._signing_keys))]
        self._signing_keys[claim.scope] = signing_keys
        return signing_keys


def _derive(secret: Secret, scope: wire.Scope) -> HMAC:
    return wire.keyed(wire.derive_signing_key(secret.reveal(), scope.date, scope.region, scope.service))


def _payload_hash(request: SignedRequest, fields: Mapping[bytes, bytes]) -> bytes:
    """What the last line of the canonical request is: the declared hash, else that of the body the shell has read."""
    declared = fields.get(wire.CONTENT_SHA256)
    if declared is None:
        if request.body_sha256 is None:
            raise Unauthenticated(
                "authn.sigv4-body", "the body was not hashed and no 'x-amz-content-sha256' declares it"
            )
        return request.body_sha256.encode()
    declared = declared.strip()
    if not wire.is_sha256(declared):
        raise Unauthenticated(
            "authn.sigv4-body",
            f"'x-amz-content-sha256' must be the sha256 of the body in lower-case hex, not '{wire.shown(declared)}'",
        )
    return declared


def _missing() -> Unauthenticated:
    return Unauthenticated("authn.missing", "Request is missing Authentication Token")


def _query_form_closed() -> Unauthenticated:
    return Unauthenticated("authn.sigv4-incomplete", "signatures in the query string are not accepted here")


def _invalid_token(detail: str) -> Unauthenticated:
    return Unauthenticated("authn.sigv4-key", "The security token included in the request is invalid.", detail=detail)
