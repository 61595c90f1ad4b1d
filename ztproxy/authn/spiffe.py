"""SPIFFE IDs, read strictly: a match or nothing, no normalisation.

```
spiffe-id    = "spiffe://" trust-domain *( "/" segment )
trust-domain = 1*255( %x61-7A / DIGIT / "." / "-" / "_" )
segment      = 1*( ALPHA / DIGIT / "." / "-" / "_" )          ; not "." or ".."
```
Source: SPIFFE-ID §2.1-2.3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_ID_CHARACTERS: Final = 2048

_ID: Final = re.compile(r"spiffe://([a-z0-9._-]{1,255})((?:/[A-Za-z0-9._-]+)*)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpiffeId:
    """A valid SPIFFE ID."""

    trust_domain: str
    path: str
    """Empty for the trust domain itself, else it starts with `/`."""

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}{self.path}"


def parse_spiffe_id(text: str) -> SpiffeId:
    """The SPIFFE ID a text spells.

    Raises: `ValueError`.
    """
    match = _ID.fullmatch(text) if len(text) <= MAX_ID_CHARACTERS else None
    if match is None or any(segment in {".", ".."} for segment in match[2].split("/")):
        raise ValueError("not a spiffe id")
    return SpiffeId(trust_domain=match[1], path=match[2])
