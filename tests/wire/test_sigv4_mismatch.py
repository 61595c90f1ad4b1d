"""After a mismatch: what is still accepted, and which mistakes are told by name."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

import pytest

from ztproxy.wire.sigv4 import EMPTY_SHA256, keyed, sha256_hex, string_to_sign
from ztproxy.wire.sigv4_canonical import canonical_request
from ztproxy.wire.sigv4_mismatch import MismatchedSignature

KEY = b"k" * 32
BODY = hashlib.sha256(b"body").hexdigest().encode()
PRESENTED = MismatchedSignature(
    method="PUT",
    path=b"/a/./b%20c",
    query=b"z&a=1",
    prescribed_path=b"/a/b%2520c",
    prescribed_query=b"a=1&z=",
    headers=b"host:h\n",
    signed_headers=b"host",
    payload_hash=BODY,
    timestamp=b"20150830T123600Z",
    scope=b"20150830/us-east-1/iam/aws4_request",
    signature=b"0" * 64,
)


def over(
    path: bytes, query: bytes, payload_hash: bytes = BODY, presented: MismatchedSignature = PRESENTED
) -> MismatchedSignature:
    """The same request with a good signature over another canonical request."""
    canonical = canonical_request(
        method=presented.method,
        path=path,
        query=query,
        headers=presented.headers,
        signed_headers=presented.signed_headers,
        payload_hash=payload_hash,
    )
    text = string_to_sign(presented.timestamp, presented.scope, canonical)
    return replace(presented, signature=hmac.digest(KEY, text, "sha256").hex().encode())


def test_path_and_query_as_sent_are_accepted() -> None:
    assert over(b"/a/./b%20c", b"z&a=1").explain(keyed(KEY)) is None
    refused = over(b"/a/./b%20c", b"z&a=1").explain(keyed(b"other"))
    assert refused is not None
    assert refused.code == "authn.sigv4-mismatch"


def test_escaped_escape_is_never_taken_as_sent() -> None:
    # Good for `/a%20b` in the prescribed form; as sent it would open `/a%2520b`.
    sent = replace(PRESENTED, path=b"/a%2520b", prescribed_path=b"/a%252520b")
    refused = over(b"/a%2520b", b"z&a=1", presented=sent).explain(keyed(KEY))
    assert refused is not None


@pytest.mark.parametrize(
    ("path", "query", "payload_hash", "words"),
    [
        (b"/a/b%2520c", b"a=1&z=", EMPTY_SHA256, "`curl -T`"),
        (b"/a/./b%20c", b"z&a=1", EMPTY_SHA256, "`curl -T`"),
        (b"/a/./b%2520c", b"a=1&z=", BODY, "dot segments"),
        (b"/other", b"a=1&z=", BODY, "for details."),
    ],
)
def test_known_mistakes_are_named_and_refused(path: bytes, query: bytes, payload_hash: bytes, words: str) -> None:
    refused = over(path, query, payload_hash).explain(keyed(KEY))
    assert refused is not None
    assert refused.code == "authn.sigv4-mismatch"
    assert refused.public.startswith("The request signature we calculated does not match")
    assert words in refused.public


def test_record_learns_which_canonical_request_was_expected() -> None:
    refused = PRESENTED.explain(keyed(KEY))
    assert refused is not None
    canonical = canonical_request(
        method="PUT",
        path=b"/a/b%2520c",
        query=b"a=1&z=",
        headers=b"host:h\n",
        signed_headers=b"host",
        payload_hash=BODY,
    )
    assert sha256_hex(canonical) in refused.detail
    assert sha256_hex(canonical) not in refused.public
