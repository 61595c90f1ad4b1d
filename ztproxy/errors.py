"""The error tree: every failure a peer or an operator can see, each with a code that never changes its meaning.

Verification raises these; authorization returns a `Decision`. `public` is written for the peer and helps no
attacker; `detail` goes to the audit record. The table `CODES` is the whole tree: a shell's render table and
`docs/audit.md` are tested against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final


class ZtproxyError(Exception):
    """Root of everything this house raises on purpose."""


class AccessError(ZtproxyError):
    """A failure a peer sees; `code` is stable and stands in `CODES`."""

    def __init__(self, code: str, public: str, *, detail: str = "") -> None:
        spec = CODES[code]
        if not isinstance(self, spec.error):
            raise TypeError(f"code `{code}` belongs to {spec.error.__name__}")
        super().__init__(public)
        self.code: Final = code
        self.public: Final = public
        self.detail: Final = detail
        self.status: Final = spec.status
        self.aws_code: Final = spec.aws_code


class ProtocolError(AccessError):
    """The peer broke the wire rules or a limit of them; the connection ends."""


class Unauthenticated(AccessError):
    """Evidence absent, broken or expired."""


class Denied(AccessError):
    """The decision was no."""


class NoRoute(AccessError):
    """Nothing configured answers here."""


class Overloaded(AccessError):
    """A configured limit is reached."""


class CredentialsUnavailable(AccessError):
    """No valid lease can be had."""


class UpstreamError(AccessError):
    """The upstream failed or was slow."""


class AuditUnavailable(AccessError):
    """A required record could not be written; nothing is forwarded."""


class Revoked(AccessError):
    """A live grant was withdrawn or ran out."""


class Internal(AccessError):
    """A bug of ours: recorded and answered 500, never an allow."""


@dataclass(frozen=True, slots=True)
class Code:
    """What a code means on the wire."""

    error: type[AccessError]
    status: int
    """HTTP status; 0: no HTTP message can carry it, the connection closes."""
    meaning: str
    aws_code: str = ""
    """What a SigV4 caller is told; empty: the shell's own word for the status."""


CODES: Final[dict[str, Code]] = {
    "protocol.proxy-header": Code(ProtocolError, 0, "the PROXY header is missing, malformed or not allowed here"),
    "protocol.tls": Code(ProtocolError, 0, "the TLS handshake failed"),
    "protocol.certificate": Code(ProtocolError, 0, "the client certificate was refused in the handshake"),
    "protocol.deadline": Code(ProtocolError, 408, "the request head was not complete in time"),
    "protocol.body-timeout": Code(ProtocolError, 408, "the request body came too slowly"),
    "protocol.head": Code(ProtocolError, 400, "the request head is malformed"),
    "protocol.target": Code(ProtocolError, 400, "the request target is ambiguous or malformed"),
    "protocol.host": Code(ProtocolError, 400, "the Host field is missing, repeated or malformed"),
    "protocol.framing": Code(ProtocolError, 400, "the length of the message is ambiguous or malformed"),
    "protocol.hop": Code(ProtocolError, 400, "a Connection option names a protected field"),
    "protocol.body-size": Code(ProtocolError, 413, "the body is larger than the route allows"),
    "protocol.target-size": Code(ProtocolError, 414, "the request target is too long"),
    "protocol.expect": Code(ProtocolError, 417, "the expectation is not supported"),
    "protocol.misdirected": Code(ProtocolError, 421, "the host asked for does not belong to this TLS connection"),
    "protocol.head-size": Code(ProtocolError, 431, "the request head or one of its fields is too large"),
    "protocol.method": Code(ProtocolError, 501, "the method or upgrade is not supported"),
    "authn.missing": Code(Unauthenticated, 401, "no acceptable credential came", "MissingAuthenticationTokenException"),
    "authn.ambiguous": Code(Unauthenticated, 401, "several credentials came where one may"),
    "authn.certificate-missing": Code(Unauthenticated, 401, "the route demands a client certificate and none came"),
    "authn.certificate-expired": Code(Unauthenticated, 401, "the client certificate is outside its validity"),
    "authn.certificate-invalid": Code(Unauthenticated, 401, "the client certificate cannot prove an identity"),
    "authn.token-malformed": Code(Unauthenticated, 401, "the token is not a well-formed JWT"),
    "authn.token-size": Code(Unauthenticated, 401, "the token is too large"),
    "authn.token-algorithm": Code(Unauthenticated, 401, "the token's algorithm is not allowed for its issuer"),
    "authn.token-key": Code(Unauthenticated, 401, "the token names no usable key of its issuer"),
    "authn.token-signature": Code(Unauthenticated, 401, "the token's signature does not verify"),
    "authn.token-type": Code(Unauthenticated, 401, "the token is of another kind"),
    "authn.token-claims": Code(Unauthenticated, 401, "a claim of the token is missing or malformed"),
    "authn.token-issuer": Code(Unauthenticated, 401, "the token comes from an unknown issuer"),
    "authn.token-audience": Code(Unauthenticated, 401, "the token is for another audience"),
    "authn.token-expired": Code(Unauthenticated, 401, "the token has expired"),
    "authn.token-early": Code(Unauthenticated, 401, "the token is not valid yet"),
    "authn.token-binding": Code(Unauthenticated, 401, "the token is bound to another certificate"),
    "authn.keys-unavailable": Code(Unauthenticated, 503, "the issuer's keys cannot be had"),
    "authn.sigv4-query": Code(Unauthenticated, 400, "the query string cannot be canonicalised", "MalformedQueryString"),
    "authn.sigv4-incomplete": Code(
        Unauthenticated, 400, "a part of the signature is missing or malformed", "IncompleteSignature"
    ),
    "authn.sigv4-unsigned": Code(
        Unauthenticated, 403, "a field that must be signed is not", "InvalidSignatureException"
    ),
    "authn.sigv4-expired": Code(
        Unauthenticated, 403, "the signature is too old or from the future", "InvalidSignatureException"
    ),
    "authn.sigv4-scope": Code(
        Unauthenticated, 403, "the credential scope is not for this service", "InvalidSignatureException"
    ),
    "authn.sigv4-key": Code(Unauthenticated, 403, "the access key id is unknown", "UnrecognizedClientException"),
    "authn.sigv4-mismatch": Code(
        Unauthenticated, 403, "the signature does not match the request", "InvalidSignatureException"
    ),
    "authn.sigv4-body": Code(
        Unauthenticated, 403, "the body is not the one that was signed", "InvalidSignatureException"
    ),
    "authz.denied-explicit": Code(Denied, 403, "a statement denies this", "AccessDeniedException"),
    "authz.denied-implicit": Code(Denied, 403, "no statement allows this", "AccessDeniedException"),
    "authz.error": Code(Denied, 403, "a policy could not be evaluated, which denies", "AccessDeniedException"),
    "route.none": Code(NoRoute, 404, "no route answers for this host and path", "NotFoundException"),
    "overload.connections": Code(Overloaded, 503, "too many connections", "ServiceUnavailableException"),
    "overload.upstream": Code(Overloaded, 503, "the route's upstream is at its limit", "ServiceUnavailableException"),
    "credentials.unavailable": Code(CredentialsUnavailable, 503, "no upstream credential can be had"),
    "upstream.connect": Code(UpstreamError, 502, "the upstream cannot be reached"),
    "upstream.tls": Code(UpstreamError, 502, "the upstream's TLS identity was refused"),
    "upstream.response": Code(UpstreamError, 502, "the upstream's answer was malformed"),
    "upstream.closed": Code(UpstreamError, 502, "the upstream closed before it answered"),
    "upstream.truncated": Code(UpstreamError, 502, "the upstream's answer ended early"),
    "upstream.timeout": Code(UpstreamError, 504, "the upstream was too slow"),
    "audit.unavailable": Code(AuditUnavailable, 503, "the audit record cannot be written, so nothing is forwarded"),
    "grant.expired": Code(Revoked, 0, "the grant ran out before the exchange was over"),
    "grant.revoked": Code(Revoked, 0, "the grant was withdrawn"),
    "client.closed": Code(ProtocolError, 0, "the client went away before the exchange was over"),
    "internal": Code(Internal, 500, "a bug of ours; the record says where", "InternalFailure"),
}
"""Every code, its class, its HTTP status and the word AWS callers read. Source: house rules §6."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in a file an operator wrote; lines and columns count from 1."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class ConfigError(ZtproxyError):
    """Every problem of a configuration or policy at once; the process exits with code 2."""

    exit_code: ClassVar[int] = 2

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems: Final = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))
