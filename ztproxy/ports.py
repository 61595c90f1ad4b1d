"""The Protocols where the house can be extended; each stands here once it has its second implementation."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from ztproxy.types import Evidence, Identity, NetworkContext


class Authenticator(Protocol):
    """One way to prove who one is."""

    name: str
    """What `authenticate` in a route calls it."""

    def recognises(self, evidence: Evidence) -> bool:
        """Whether this evidence is of its kind; says nothing about its worth."""
        ...

    async def identify(self, evidence: Evidence, network: NetworkContext, now: datetime) -> Identity:
        """The identity the evidence proves.

        Finishes without suspending whenever what it needs is cached.
        Raises: `Unauthenticated`.
        """
        ...
