"""IAM evaluation: our own cases in `tests/vectors/iam/`, and everybody else's under `$ZTPROXY_VECTORS/iam/`.

A case is turned into a policy set and an access request and asked through the same doors as traffic. Two kinds of case
stand apart, and each is counted:

- those that need a policy layer which is not there yet (boundary, session, guardrails, endpoint policies), told by
  their fields alone;
- those whose policy we refuse to load where IAM stores it and lets it never match. A refused policy gives nothing, so
  such a case passes only if it expects that nothing is given.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.authz.requests import AT, request
from ztproxy.authz import context, match
from ztproxy.authz.conditions import compile_condition
from ztproxy.authz.evaluate import evaluate
from ztproxy.authz.index import build_policy_set
from ztproxy.authz.operators import instant
from ztproxy.authz.parse import parse_policy
from ztproxy.authz.policy import Condition, GrantBinding, GrantMatch, Policy, PolicyKind
from ztproxy.errors import ConfigError
from ztproxy.types import AccessRequest

LATER = frozenset(("boundary", "session", "scp", "rcp", "vpc_endpoint"))
OWN = Path(__file__).parents[1] / "vectors" / "iam"
GIVEN = Path(os.environ["ZTPROXY_VECTORS"]) / "iam" if "ZTPROXY_VECTORS" in os.environ else None


def cases(folder: Path | None) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob("*.json")) if folder else ():
        yield from json.loads(file.read_text())["cases"]


ALL = [*cases(OWN), *cases(GIVEN)]
LATER_CASES = [case for case in ALL if case["kind"] == "decision" and LATER & set(case["policies"])]
NOW = [case for case in ALL if case not in LATER_CASES]


def of_kind(kind: str) -> pytest.MarkDecorator:
    chosen = [case for case in NOW if case["kind"] == kind]
    return pytest.mark.parametrize("case", chosen, ids=[case["id"] for case in chosen])


def asked(given: Mapping[str, Any], **more: Any) -> AccessRequest:
    """The request with each context key in the layer where it lives."""
    layers: dict[str, dict[str, Any]] = {"network": {}, "identity": {}, "ask": {}, "request": {}}
    for key, value in given.items():
        layers[context.layer(key)][key.lower()] = tuple(value) if isinstance(value, list) else value
    functions = layers.pop("request")
    if "aws:currenttime" in functions:
        more["at"] = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
            microseconds=instant(functions.pop("aws:currenttime")) or 0
        )
    if "aws:multifactorauthage" in functions:
        layers["identity"]["aws:multifactorauthpresent"] = "true"
        signed_in = int(AT.timestamp()) - int(functions.pop("aws:multifactorauthage"))
        layers["identity"]["ztproxy:claim/auth_time"] = str(signed_in)
    if "aws:requestedregion" in functions:
        more["route_arn"] = f"arn:aws:execute-api:{functions.pop('aws:requestedregion')}:111122223333:x/y"
    assert not functions, f"no way yet to set {functions}"
    return request(network=layers["network"], identity=layers["identity"], ask=layers["ask"], **more)


def parsed(document: Mapping[str, Any], kind: PolicyKind) -> Policy:
    return parse_policy(json.dumps(document), file="case.json", kind=kind, route_arn=None)


def principals(principal: str | None) -> tuple[str, ...]:
    if principal in (None, "anonymous"):
        return ()
    return (f"{'AWS' if str(principal).startswith('arn:') else 'Federated'}:{principal}",)


def one_condition(operator: str, key: str, values: Any) -> Condition:
    listed = tuple(str(value) for value in values) if isinstance(values, list) else (str(values),)
    return Condition(operator=operator, key=key, values=listed, line=1)


@of_kind("condition")
def test_condition(case: dict[str, Any]) -> None:
    conditions = [
        one_condition(operator, key, values)
        for operator, block in case["condition"].items()
        for key, values in block.items()
    ]
    subject = asked(case["context"])
    try:
        tests = [compile_condition(condition, allow=True, variables=True) for condition in conditions]
    except ValueError:
        assert case["matches"] is False
        return
    assert all(test.holds(subject) for test in tests) is case["matches"]


@of_kind("action")
def test_action(case: dict[str, Any]) -> None:
    selected = match.actions(case["patterns"])(case["action"])
    assert (selected is not (case["element"] == "NotAction")) is case["matches"]


def decided(element: Mapping[str, Any], subject: AccessRequest, effect: str = "Allow") -> str:
    """How one statement with this element decides, everything else in it being open."""
    said: dict[str, Any] = {"Effect": effect, "Action": "*", "Resource": "*", "Principal": "*", **element}
    for name in ("Resource", "Principal"):
        if f"Not{name}" in element:
            del said[name]
    one = parsed({"Version": "2012-10-17", "Statement": [said]}, "resource")
    return evaluate(build_policy_set({"orders": one}, []), subject).effect.value


@of_kind("resource")
def test_resource(case: dict[str, Any]) -> None:
    subject = asked(case["context"], resource=case["resource"])
    outcome = decided({case["element"]: case["patterns"]}, subject)
    assert (outcome == "allow") is case["matches"]


@of_kind("principal")
def test_principal(case: dict[str, Any]) -> None:
    subject = request(principals=principals(case["principal"]))
    # A Deny shows whether the element selects at all; an Allow, whether by more than the account.
    denied = decided({case["element"]: case["value"]}, subject, "Deny")
    allowed = decided({case["element"]: case["value"]}, subject, case["effect"])
    assert (denied == "explicit_deny") is case["matches"]
    if case["effect"] == "Allow":
        assert (allowed == "allow") is (case["match_level"] in ("Match", "SessionRoleMatch"))


@of_kind("decision")
def test_decision(case: dict[str, Any]) -> None:
    asks, held = case["request"], case["policies"]
    who = asks["principal"]
    caller = str(who).split(":")[4] if str(who).startswith("arn:") else None
    owner = asks["resource_account"] or caller or "111122223333"
    subject = asked(
        asks["context"],
        resource=asks["resource"],
        action=asks["action"],
        principals=principals(who),
        kind="anonymous" if who == "anonymous" else "sigv4",
        account=caller,
        route_account=owner,
    )
    try:
        resource = {"orders": parsed(held["resource"], "resource")} if "resource" in held else {}
        identity = tuple(parsed(one, "identity") for one in held.get("identity", ()))
    except ConfigError:
        assert case["expected"] == "implicit_deny"
        return
    grants = [GrantBinding(match=GrantMatch(subject="ada@example.com"), policies=identity)] if identity else []
    assert evaluate(build_policy_set(resource, grants), subject).effect.value == case["expected"]


def test_every_case_is_run_or_waits_for_a_named_layer() -> None:
    kinds = {"decision", "condition", "action", "resource", "principal"}
    assert {case["kind"] for case in NOW} == kinds
    assert len(NOW) + len(LATER_CASES) == len(ALL)
    assert all(LATER & set(case["policies"]) for case in LATER_CASES)


KNOWN = {"permissive.json": (186, 3), "shapes.json": (37, 10), "evaluation.json": (35, 3)}
"""How many cases a file holds, and how many of them wait."""


def test_how_many_wait() -> None:
    folders = [folder for folder in (OWN, GIVEN) if folder]
    counted = 0
    for file in (folder / name for folder in folders for name in KNOWN):
        if file.exists():
            listed = json.loads(file.read_text())["cases"]
            waiting = [one for one in listed if one["kind"] == "decision" and LATER & set(one["policies"])]
            assert (len(listed), len(waiting)) == KNOWN[file.name]
            counted += 1
    assert counted >= 1
