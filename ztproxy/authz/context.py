"""Condition keys: which exist, what they hold, and where their value lives.

A fact lives in one of three mappings made before the policy is asked (`network.facts` once per connection,
`identity.facts` once per credential, `ask.facts` once per request), or is a function of the request. The place is
looked up at load, so a condition reads exactly one mapping. Keys are compared in lower case; facts are stored so.
Source: aws.md §4.5.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal

from ztproxy.types import AccessRequest, Facts

Layer = Literal["network", "identity", "ask", "request"]
ValueType = Literal["string", "arn", "bool", "numeric", "date", "ip", "any"]
Value = str | tuple[str, ...] | None
Read = Callable[[AccessRequest], Value]


@dataclass(frozen=True, slots=True)
class Key:
    """One condition key, or a family of them when its name ends in `/`."""

    name: str
    type: ValueType
    layer: Layer
    multivalued: bool = False


_TABLE: Final = (
    # Network: one per connection.
    Key("aws:SourceIp", "ip", "network"),
    Key("aws:VpcSourceIp", "ip", "network"),
    Key("aws:SourceVpce", "string", "network"),
    Key("aws:SourceVpc", "string", "network"),
    Key("aws:SourceVpcArn", "arn", "network"),
    Key("aws:VpceAccount", "string", "network"),
    Key("aws:VpceOrgID", "string", "network"),
    Key("aws:VpceOrgPaths", "string", "network", multivalued=True),
    Key("aws:SecureTransport", "bool", "network"),
    # Identity: one per credential.
    Key("aws:PrincipalArn", "arn", "identity"),
    Key("aws:PrincipalAccount", "string", "identity"),
    Key("aws:PrincipalType", "string", "identity"),
    Key("aws:PrincipalOrgID", "string", "identity"),
    Key("aws:PrincipalOrgPaths", "string", "identity", multivalued=True),
    Key("aws:PrincipalTag/", "any", "identity"),
    Key("aws:PrincipalIsAWSService", "bool", "identity"),
    Key("aws:PrincipalServiceName", "string", "identity"),
    Key("aws:PrincipalServiceNamesList", "string", "identity", multivalued=True),
    Key("aws:userid", "string", "identity"),
    Key("aws:username", "string", "identity"),
    Key("aws:MultiFactorAuthPresent", "bool", "identity"),
    Key("aws:TokenIssueTime", "date", "identity"),
    Key("aws:FederatedProvider", "string", "identity"),
    Key("aws:SourceIdentity", "string", "identity"),
    Key("ztproxy:Claim/", "any", "identity"),
    Key("ztproxy:SpiffeId", "string", "identity"),
    Key("ztproxy:ClientCert/Authority", "string", "identity"),
    Key("ztproxy:ClientCert/SpkiSha256", "string", "identity"),
    Key("ztproxy:ClientCert/FingerprintSha256", "string", "identity"),
    Key("ztproxy:ClientCert/Serial", "string", "identity"),
    Key("ztproxy:ClientCert/Subject", "string", "identity"),
    Key("ztproxy:ClientCert/SubjectCN", "string", "identity"),
    Key("ztproxy:ClientCert/DnsSan", "string", "identity", multivalued=True),
    Key("ztproxy:ClientCert/EmailSan", "string", "identity", multivalued=True),
    # Ask: one per request.
    Key("aws:UserAgent", "string", "ask"),
    Key("aws:Referer", "string", "ask"),
    Key("aws:RequestTag/", "any", "ask"),
    Key("aws:ResourceTag/", "any", "ask"),
    Key("aws:TagKeys", "string", "ask", multivalued=True),
    Key("aws:SourceArn", "arn", "ask"),
    Key("aws:SourceAccount", "string", "ask"),
    Key("aws:SourceOrgID", "string", "ask"),
    Key("aws:SourceOrgPaths", "string", "ask", multivalued=True),
    Key("aws:ResourceAccount", "string", "ask"),
    Key("aws:ResourceOrgID", "string", "ask"),
    Key("aws:ResourceOrgPaths", "string", "ask", multivalued=True),
    Key("aws:ViaAWSService", "bool", "ask"),
    Key("aws:CalledVia", "string", "ask", multivalued=True),
    Key("aws:CalledViaFirst", "string", "ask"),
    Key("aws:CalledViaLast", "string", "ask"),
    Key("ztproxy:Header/", "any", "ask"),
    Key("ztproxy:Protocol", "string", "ask"),
    Key("ztproxy:DatabaseName", "string", "ask"),
    # Functions of the request.
    Key("ztproxy:groups", "string", "request", multivalued=True),
    Key("aws:CurrentTime", "date", "request"),
    Key("aws:EpochTime", "date", "request"),
    Key("aws:MultiFactorAuthAge", "numeric", "request"),
    Key("aws:RequestedRegion", "string", "request"),
)
KEYS: Final[Mapping[str, Key]] = MappingProxyType({key.name.lower(): key for key in _TABLE})
"""Every key of the `aws:` and `ztproxy:` namespaces, by lower-case name."""

OUR_SERVICES: Final = frozenset(("execute-api", "rds-db", "ztproxy"))
"""The services whose actions are ever asked here."""


def describe(key: str) -> Key | None:
    """What is known of a key as written in a policy; None: nothing of that name can exist.

    Keys of an issuer (`login.example.com:sub`) live with the identity; keys of other AWS services (`s3:prefix`) are
    well-formed but never present in what this proxy asks.
    """
    lowered = key.lower()
    prefix, colon, name = lowered.rpartition(":")
    if not colon or not prefix or not name:
        return None
    if found := KEYS.get(lowered):
        return None if found.name.endswith("/") else found
    family, slash, member = lowered.partition("/")
    if slash and member and (found := KEYS.get(family + "/")):
        return found
    if of_issuer(lowered):
        return Key(key, "any", "identity", multivalued=name == "amr")
    if prefix in ("aws", "ztproxy") or lowered.startswith(("aws:", "ztproxy:")):
        return None
    return Key(key, "any", "ask")


def of_issuer(key: str) -> bool:
    """Whether a key names a claim of an OIDC issuer: its prefix is a host, not a service name."""
    prefix = key.lower().split("/", 1)[0] if "/" in key.rpartition(":")[0] else key.lower().rpartition(":")[0]
    return "." in prefix or prefix.split(":", 1)[0] == "localhost"


def of_other_service(key: str) -> bool:
    """Whether a key belongs to an AWS service that is never asked for here."""
    service = key.lower().partition(":")[0]
    return service != "aws" and service not in OUR_SERVICES and not of_issuer(key)


def suggest(key: str) -> str | None:
    """The known key most like a misspelt one."""
    close = difflib.get_close_matches(key.lower(), KEYS, n=1, cutoff=0.75)
    return KEYS[close[0]].name if close else None


def layer(key: str) -> Layer:
    """Where the value of a key lives."""
    found = describe(key)
    return found.layer if found else "ask"


@lru_cache(maxsize=1024)
def reader(key: str) -> Read:
    """The function that reads a key's value from a request."""
    lowered = key.lower()
    place = layer(key)
    if place == "network":
        return lambda request: request.network.facts.get(lowered)
    if place == "identity":
        return lambda request: request.identity.facts.get(lowered)
    if place == "ask":
        return lambda request: request.ask.facts.get(lowered)
    return _FUNCTIONS[lowered]


def _groups(request: AccessRequest) -> Value:
    return request.identity.groups or None


def _current_time(request: AccessRequest) -> Value:
    return request.at.isoformat()


def _epoch_time(request: AccessRequest) -> Value:
    return str(int(request.at.timestamp()))


def signed_in_at(request: AccessRequest) -> int | None:
    """Epoch seconds of a sign-in with several factors, or None.

    Only the issuer's `auth_time` tells: a refreshed token is younger than the sign-in behind it.
    """
    facts = request.identity.facts
    told = facts.get("ztproxy:claim/auth_time")
    if facts.get("aws:multifactorauthpresent") != "true" or not isinstance(told, str) or not told.isdecimal():
        return None
    return int(told)


def _mfa_age(request: AccessRequest) -> Value:
    # Absent unless known, as on AWS: a positive comparison then fails.
    since = signed_in_at(request)
    return None if since is None else str(int(request.at.timestamp()) - since)


@lru_cache(maxsize=1024)
def _region(arn: str) -> Value:
    parts = arn.split(":", 5)
    return (parts[3] or None) if len(parts) == 6 else None


def _requested_region(request: AccessRequest) -> Value:
    return _region(request.route.arn)


_FUNCTIONS: Final[Mapping[str, Read]] = {
    "ztproxy:groups": _groups,
    "aws:currenttime": _current_time,
    "aws:epochtime": _epoch_time,
    "aws:multifactorauthage": _mfa_age,
    "aws:requestedregion": _requested_region,
}


def network_facts(*, peer: str, vpce_id: str | None, vpc_endpoints: Mapping[str, str | None], secure: bool) -> Facts:
    """The network keys of one connection; `vpc_endpoints` maps an endpoint id to its VPC, where that is known.

    With an endpoint id `aws:SourceIp` is absent and `aws:VpcSourceIp` present, as on AWS: addresses behind an endpoint
    are private and may overlap between VPCs. Source: aws.md §4.5, §5.4.
    """
    facts: dict[str, str | tuple[str, ...]] = {"aws:securetransport": "true" if secure else "false"}
    if vpce_id is None:
        facts["aws:sourceip"] = peer
    else:
        facts["aws:sourcevpce"] = vpce_id
        facts["aws:vpcsourceip"] = peer
        if vpc := vpc_endpoints.get(vpce_id):
            facts["aws:sourcevpc"] = vpc
    return MappingProxyType(facts)
