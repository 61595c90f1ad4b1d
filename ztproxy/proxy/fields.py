"""The fields of a request, worked out once for as long as a client repeats them to the byte.

On a kept connection most requests differ from the one before in their request line alone. What follows from the
fields alone (who presents what, where it goes, how the body is framed, what is forwarded) is a pure function of their
bytes and of the connection, so equal bytes need no second look. Only the last block is kept, with its connection.
"""

from __future__ import annotations

from typing import Final

from ztproxy.errors import Unauthenticated
from ztproxy.types import Evidence, Facts, PresentedCertificate, Secret, SignedRequest
from ztproxy.wire.host import canonical_host
from ztproxy.wire.http import RequestHead, forward_fields, read_line
from ztproxy.wire.sigv4 import is_sigv4, needs_body


class FieldBlock:
    """One request's fields and all that follows from them."""

    __slots__ = ("bearer_evidence", "facts", "forwarded", "head", "host", "raw", "signed")

    def __init__(self, raw: bytes, head: RequestHead, certificate: PresentedCertificate | None) -> None:
        """Raises: `ProtocolError`, `Unauthenticated`."""
        self.raw: Final = raw
        """The bytes behind the request line."""
        self.head: Final = head
        self.host: Final = canonical_host(head.host)
        self.forwarded: Final = forward_fields(head)
        self.facts: Final[Facts] = _facts(head)
        bearer, self.signed = _credential(head)
        """Whether a SigV4 signature came; its evidence is new with every request."""
        self.bearer_evidence: Final = Evidence(certificate=certificate, bearer=bearer)
        """The same object for every request with these fields: what it proved before can be found again by it."""

    def line_of(self, data: bytes) -> tuple[str, bytes] | None:
        """Method and target, if the data is one whole request head whose fields are these to the byte.

        None says nothing about the data: it must be read.
        """
        if self.head.minor != 1 or not data.endswith(self.raw):
            return None
        return read_line(data[: -len(self.raw)])

    def evidence(self, method: str, raw_target: bytes, body_sha256: str | None) -> Evidence:
        """What the request presents; a signature covers the request line too."""
        if not self.signed:
            return self.bearer_evidence
        return Evidence(
            certificate=self.bearer_evidence.certificate,
            signed=SignedRequest(
                method=method,
                raw_target=raw_target,
                raw_headers=tuple(self.head.raw_headers),
                body_sha256=body_sha256,
            ),
        )

    @property
    def hashed_by_body(self) -> bool:
        """Whether a signature came that names no body hash: the body itself must be hashed to verify it."""
        return self.signed and needs_body(tuple(self.head.raw_headers))


def _credential(head: RequestHead) -> tuple[Secret | None, bool]:
    """The token that came, and whether a signature did."""
    authorization = head.authorization
    if authorization is None:
        return None, False
    scheme, _, credential = authorization.partition(b" ")
    if scheme.lower() == b"bearer":
        return Secret(credential.strip(b" ")), False
    if is_sigv4(scheme):
        return None, True
    raise Unauthenticated("authn.missing", "the Authorization scheme is not supported")


def _facts(head: RequestHead) -> Facts:
    facts = {"ztproxy:protocol": "http"}
    if head.user_agent:
        facts["aws:useragent"] = head.user_agent.decode("latin-1")
    if head.referer:
        facts["aws:referer"] = head.referer.decode("latin-1")
    return facts
