"""What a policy says, as frozen data: nothing here decides.

`parse.py` makes a `Policy` from text, `index.py` compiles policies into a `PolicySet`, `evaluate.py` asks it. Condition
keys are kept as written (for people) and compared in lower case (IAM key names ignore case).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ztproxy.types import StatementRef

if TYPE_CHECKING:
    from ztproxy.authz.index import PolicyIndex

PolicyKind = Literal["resource", "identity"]
StatementEffect = Literal["Allow", "Deny"]
Version = Literal["2012-10-17", "2008-10-17"]

EVERYONE = "*"
"""The principal token that every caller has, the anonymous included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One operator on one key; several values are alternatives."""

    operator: str
    """Canonical: `ForAnyValue:StringEqualsIfExists`."""
    key: str
    values: tuple[str, ...]
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement; `not_...` tells that the element was written in its negative form."""

    sid: str | None
    effect: StatementEffect
    principals: tuple[str, ...]
    """Tokens as in `Identity.principals`, or `*`; empty in identity policies."""
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    """Six-part ARN patterns or `*`; short forms are already expanded."""
    not_principal: bool = False
    not_action: bool = False
    not_resource: bool = False
    conditions: tuple[Condition, ...] = ()
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One policy document."""

    file: str
    kind: PolicyKind
    version: Version
    statements: tuple[Statement, ...]

    @property
    def variables(self) -> bool:
        """Whether `${...}` is a variable; before 2012-10-17 it is literal text."""
        return self.version == "2012-10-17"

    def ref(self, statement: Statement) -> StatementRef:
        """Where a statement of this policy stands."""
        return StatementRef(source=self.file, line=statement.line, sid=statement.sid, policy_kind=self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantMatch:
    """Who an identity policy is attached to: every part given must match.

    Raises: `ValueError` when nothing is given (S14: empty never means everyone) or a part is malformed.
    """

    issuer: str | None = None
    """The URL of an OIDC issuer, exactly; a name could be confused with that of a certificate authority."""
    group: str | None = None
    subject: str | None = None
    spiffe: str | None = None
    """A SPIFFE ID; `*` and `?` only in its path."""
    principal: str | None = None
    """An IAM ARN, exactly."""

    def __post_init__(self) -> None:
        parts = (self.issuer, self.group, self.subject, self.spiffe, self.principal)
        if all(part is None for part in parts):
            raise ValueError("a grant that matches nothing in particular would match everyone")
        if any(part == "" for part in parts):
            raise ValueError("an empty text in a grant's match can never be meant")
        if self.spiffe is not None:
            scheme, _, rest = self.spiffe.partition("://")
            trust_domain, slash, path = rest.partition("/")
            if scheme != "spiffe" or not trust_domain or not slash or not path:
                raise ValueError(f"`{self.spiffe}` is not a SPIFFE ID such as `spiffe://prod.example.com/billing`")
            if "*" in trust_domain or "?" in trust_domain:
                raise ValueError(f"the trust domain of `{self.spiffe}` must be exact")
        if self.principal is not None and (self.principal.count(":") < 5 or "*" in self.principal):
            raise ValueError(f"`{self.principal}` is not the ARN of one principal")


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantBinding:
    """Identity policies and the callers they are attached to."""

    match: GrantMatch
    policies: tuple[Policy, ...]

    def __post_init__(self) -> None:
        if not self.policies:
            raise ValueError("a grant without policies grants nothing; remove it or name its policies")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySet:
    """Everything in force at one moment, swapped as a whole."""

    resource: Mapping[str, Policy]
    """By route name."""
    identity: tuple[GrantBinding, ...]
    digest: str
    """Hex SHA-256 of the canonical content: equal digests decide alike."""
    index: PolicyIndex
