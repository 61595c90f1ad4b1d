"""Writes `evaluation.json`: cases whose answers stand in the IAM User Guide, or follow from a rule stated there.

The oracle is the documentation: each case names the rule it restates. Run it again after adding a case; the file it
writes is committed, and `tests/conformance/test_iam.py` reads that.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROUTE = "arn:aws:execute-api:eu-west-1:111122223333:orders/prod"
ADA = "arn:aws:iam::111122223333:user/ada"
BOB = "arn:aws:iam::444455556666:user/bob"
OPEN: dict[str, Any] = {"Action": "execute-api:Invoke", "Resource": "*"}

cases: list[dict[str, Any]] = []


def add(kind: str, name: str, rule: str, **fields: Any) -> None:
    cases.append({"id": f"own/{kind}/{name}", "kind": kind, "rule": rule, **fields})


def decision(
    name: str, rule: str, expected: str, principal: str | None = ADA, context: Any = None, **policies: Any
) -> None:
    asked = {
        "principal": principal,
        "action": "execute-api:Invoke",
        "resource": f"{ROUTE}/GET/orders/1",
        "resource_account": "111122223333",
        "context": context or {},
    }
    add("decision", name, rule, request=asked, policies=policies, expected=expected)


def policy(*statements: dict[str, Any], version: str = "2012-10-17") -> dict[str, Any]:
    return {"Version": version, "Statement": list(statements)}


def allow(**elements: Any) -> dict[str, Any]:
    return {"Effect": "Allow", **OPEN, **elements}


def deny(**elements: Any) -> dict[str, Any]:
    return {"Effect": "Deny", **OPEN, **elements}


LOGIC = "IAM User Guide, policy evaluation logic"
KEYS = "IAM User Guide, condition operators: missing keys"
MANY = "IAM User Guide, multivalued context keys"

decision("silence", LOGIC, "implicit_deny", identity=[])
decision("identity-allows", LOGIC, "allow", identity=[policy(allow())])
decision("resource-allows", LOGIC, "allow", identity=[], resource=policy(allow(Principal={"AWS": ADA})))
decision("deny-wins", LOGIC, "explicit_deny", identity=[policy(deny())], resource=policy(allow(Principal="*")))
decision("delegation", LOGIC, "implicit_deny", identity=[], resource=policy(allow(Principal={"AWS": "111122223333"})))
decision("cross-one-side", LOGIC, "implicit_deny", BOB, identity=[], resource=policy(allow(Principal={"AWS": BOB})))
decision("cross-both", LOGIC, "allow", BOB, identity=[policy(allow())], resource=policy(allow(Principal={"AWS": BOB})))
decision("public", LOGIC, "allow", "anonymous", identity=[], resource=policy(allow(Principal="*")))
decision("boundary-later", LOGIC, "implicit_deny", identity=[policy(allow())], boundary=[policy(allow(Action="s3:*"))])
decision("scp-later", LOGIC, "implicit_deny", identity=[policy(allow())], scp=[[policy(allow(Action="s3:*"))]])
decision("session-later", LOGIC, "implicit_deny", identity=[policy(allow())], session=[policy(allow(Action="s3:*"))])
through = {"StringNotEquals": {"aws:SourceVpce": "vpce-1"}}
private = policy(allow(Principal="*"), deny(Principal="*", Condition=through))
GATEWAY = "API Gateway Developer Guide, resource policy examples: private API"
decision("endpoint", GATEWAY, "allow", context={"aws:SourceVpce": "vpce-1"}, identity=[], resource=private)
decision(
    "other-endpoint", GATEWAY, "explicit_deny", context={"aws:SourceVpce": "vpce-2"}, identity=[], resource=private
)
decision("no-endpoint", GATEWAY, "explicit_deny", identity=[], resource=private)

for operator, missing in (
    ("StringEquals", False),
    ("StringNotEquals", True),
    ("StringLikeIfExists", True),
    ("ForAllValues:StringEquals", True),
    ("ForAnyValue:StringEquals", False),
):
    add(
        "condition",
        f"missing-{operator}",
        KEYS,
        condition={operator: {"aws:username": "a"}},
        context={},
        matches=missing,
    )
for quantifier, seen, matches in (
    ("ForAnyValue", ["dev", "hr"], True),
    ("ForAllValues", ["dev", "hr"], False),
    ("ForAllValues", ["dev"], True),
):
    block = {f"{quantifier}:StringEquals": {"jwt:groups": ["dev", "ops"]}}
    add("condition", f"{quantifier}-{len(seen)}", MANY, condition=block, context={"jwt:groups": seen}, matches=matches)
mapped = {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}
for number, (address, matches) in enumerate(
    (("203.0.113.9", True), ("::ffff:203.0.113.9", True), ("2001:db8::1", False))
):
    rule = "RFC 4291 §2.5.5.2: an IPv4-mapped address is that IPv4 address"
    add("condition", f"address-{number}", rule, condition=mapped, context={"aws:SourceIp": address}, matches=matches)

ACTION = "IAM User Guide, Action: names ignore case"
add(
    "action", "case", ACTION, element="Action", patterns=["EXECUTE-API:INV*"], action="execute-api:Invoke", matches=True
)
add(
    "action", "not", ACTION, element="NotAction", patterns=["execute-api:*"], action="execute-api:Invoke", matches=False
)
ARNS = "IAM User Guide, Resource: wildcards in ARNs and policy variables"
for number, (pattern, context, matches) in enumerate(
    (
        (f"{ROUTE}/GET/*", {}, True),
        (f"{ROUTE}/GET/orders/${{aws:username}}", {"aws:username": "1"}, True),
        (f"{ROUTE}/GET/orders/${{aws:username}}", {"aws:username": "*"}, False),
        (f"{ROUTE}/GET/orders/${{aws:username, '1'}}", {}, True),
    )
):
    resource = f"{ROUTE}/GET/orders/1"
    fields = {"element": "Resource", "patterns": [pattern], "resource": resource, "context": context}
    add("resource", str(number), ARNS, **fields, matches=matches)
WHO = "IAM User Guide, Principal"
SESSION = "arn:aws:sts::111122223333:assumed-role/dev/ada"
for value, principal, level in (
    ("*", ADA, "Match"),
    ({"AWS": "arn:aws:iam::111122223333:role/team/dev"}, SESSION, "SessionRoleMatch"),
    ({"AWS": "111122223333"}, SESSION, "AccountLevelMatch"),
    ({"AWS": "arn:aws:iam::111122223333:role/ops"}, SESSION, "NoMatch"),
):
    matches = level != "NoMatch"
    fields = {"element": "Principal", "value": value, "principal": principal, "effect": "Allow", "match_level": level}
    add("principal", level, WHO, **fields, matches=matches)

if __name__ == "__main__":
    written = json.dumps({"format": 1, "cases": cases}, indent=1, ensure_ascii=False)
    Path(__file__).with_name("evaluation.json").write_text(written + "\n")
    print(len(cases))
