"""After a mismatch: one further form that is accepted, then what the signer is likely to have done instead.

A signature nearly always matches in the form its service prescribes, and nothing here is run. Otherwise the work
depends on the request alone, never on the key, and no attempt made for the sake of the message can admit anybody.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

from ztproxy.errors import Unauthenticated
from ztproxy.wire.sigv4 import EMPTY_SHA256, sha256_hex, signature_matches, string_to_sign
from ztproxy.wire.sigv4_canonical import Form, canonical_path, canonical_request, may_be_signed_as_sent

_MISMATCH: Final = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key"
    " and signing method. Consult the service documentation for details."
)
_EMPTY_BODY: Final = " The signature covers an empty body, as `curl -T` signs; send the body with `--data-binary`."
_UNNORMALIZED: Final = " The path was signed without removing its dot segments and empty segments."


@dataclass(frozen=True, slots=True, kw_only=True)
class MismatchedSignature:
    """A signature that is not one over the prescribed canonical request, and everything it claims to cover."""

    method: str
    path: bytes
    """As received."""
    query: bytes
    """As received."""
    prescribed_path: bytes
    prescribed_query: bytes
    headers: bytes
    """From `canonical_headers`."""
    signed_headers: bytes
    payload_hash: bytes
    timestamp: bytes
    scope: bytes
    """`<date>/<region>/<service>/aws4_request`."""
    signature: bytes
    """Claimed: any bytes."""

    def explain(self, signing_key: hmac.HMAC) -> Unauthenticated | None:
        """Why the request is refused, for the caller to raise once it knows whose key it was.

        None: the signature is good after all, over path and query as sent.
        """
        prescribed = (self.prescribed_path, self.prescribed_query)
        targets = [prescribed]
        if may_be_signed_as_sent(self.path, self.query):
            # LENIENT: curl 7.88 `--aws-sigv4` signs the query unsorted and its flags without `=`, and encodes the
            # path once. Pinned by `test_curl_7_88_is_accepted_over_the_target_as_sent`.
            as_sent = (self.path, self.query)
            if self._matches(signing_key, as_sent, self.payload_hash):
                return None
            targets.append(as_sent)
        reason = ""
        for target in targets:
            if self._matches(signing_key, target, EMPTY_SHA256):
                reason = _EMPTY_BODY
        unnormalized = (canonical_path(self.path, Form.UNNORMALIZED), self.prescribed_query)
        if self._matches(signing_key, unnormalized, self.payload_hash):
            reason = _UNNORMALIZED
        digest = sha256_hex(self._canonical_request(prescribed, self.payload_hash))
        detail = f"sha256 of our canonical request: {digest}"
        return Unauthenticated("authn.sigv4-mismatch", _MISMATCH + reason, detail=detail)

    def _matches(self, signing_key: hmac.HMAC, target: tuple[bytes, bytes], payload_hash: bytes) -> bool:
        canonical = self._canonical_request(target, payload_hash)
        return signature_matches(signing_key, string_to_sign(self.timestamp, self.scope, canonical), self.signature)

    def _canonical_request(self, target: tuple[bytes, bytes], payload_hash: bytes) -> bytes:
        path, query = target
        return canonical_request(
            method=self.method,
            path=path,
            query=query,
            headers=self.headers,
            signed_headers=self.signed_headers,
            payload_hash=payload_hash,
        )
