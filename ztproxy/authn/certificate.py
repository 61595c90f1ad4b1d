"""Client certificates as an authenticator: each certificate is read once and judged by the clock at every request.

The cache is found by the certificate's bytes, but an entry serves only the very same presentation: another authority or
trust domain vouching for the same bytes is another question (S06). Refusals are not kept.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from typing import Final

from ztproxy.authn.mtls import certificate_identity
from ztproxy.errors import Unauthenticated
from ztproxy.types import Evidence, Identity, NetworkContext, PresentedCertificate

CACHE_ENTRIES: Final = 10_000
CACHE_MAX_CERTIFICATE_BYTES: Final = 8 * 1024
"""Larger ones are read each time, so that the cache is bounded in bytes too."""


class CertificateAuthenticator:
    """The TLS client certificate; an `Authenticator`."""

    def __init__(self, *, name: str = "certificate", cache_entries: int = CACHE_ENTRIES) -> None:
        self.name = name
        self._cache_entries: Final = cache_entries
        self._read: Final[OrderedDict[bytes, tuple[PresentedCertificate, Identity]]] = OrderedDict()

    def recognises(self, evidence: Evidence) -> bool:
        """Whether a client certificate came."""
        return evidence.certificate is not None

    async def identify(self, evidence: Evidence, network: NetworkContext, now: datetime) -> Identity:
        """The identity the certificate proves; never suspends.

        Raises: `Unauthenticated`.
        """
        presented = evidence.certificate
        if presented is None:
            raise Unauthenticated("authn.certificate-missing", "a client certificate is required and none came")
        entry = self._read.get(presented.der)
        if entry is not None:
            known, identity = entry
            # INVARIANT: the clock is asked on every hit. Time that ran backwards is judged afresh as well.
            if (known is presented or known == presented) and identity.authenticated_at <= now < identity.expires_at:
                self._read.move_to_end(presented.der)
                return identity
            del self._read[presented.der]
        identity = certificate_identity(presented, now)
        if len(presented.der) <= CACHE_MAX_CERTIFICATE_BYTES:
            self._read[presented.der] = (presented, identity)
            if len(self._read) > self._cache_entries:
                self._read.popitem(last=False)
        return identity
