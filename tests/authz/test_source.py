"""Files to policy sets: every problem of every file, and a failed reload keeps the old set."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.authz.requests import ROUTE_ARN, request
from ztproxy.authz import source
from ztproxy.authz.evaluate import evaluate
from ztproxy.authz.policy import GrantMatch
from ztproxy.authz.source import FilePolicySource, GrantPolicies, RoutePolicy, load_policy_set
from ztproxy.errors import ConfigError

GOOD = """
Version: 2012-10-17
Statement:
  - Effect: Allow
    Principal: "*"
    Action: execute-api:Invoke
    Resource: execute-api:/prod/GET/*
"""
IDENTITY = """
Version: 2012-10-17
Statement: {Effect: Allow, Action: "execute-api:*", Resource: "*"}
"""


def route(path: Path, name: str = "orders", arn: str = ROUTE_ARN) -> RoutePolicy:
    return RoutePolicy(route=name, arn=arn, path=path)


def test_files_become_a_set(tmp_path: Path) -> None:
    orders, dev = tmp_path / "orders.yaml", tmp_path / "dev.yaml"
    orders.write_text("\ufeff" + GOOD)
    dev.write_text(IDENTITY)
    grants = [GrantPolicies(match=GrantMatch(group="dev"), paths=(dev, dev))]
    set_ = load_policy_set([route(orders), route(orders, "other", ROUTE_ARN.replace("orders", "other"))], grants)
    assert evaluate(set_, request()).allowed
    assert str(evaluate(set_, request()).deciding[0]) == f"statement ({orders}:4)"
    assert not evaluate(set_, request(route="other")).allowed
    assert evaluate(set_, request(route="other", groups=("dev",))).allowed


def test_every_problem_of_every_file_once(tmp_path: Path) -> None:
    bad, missing, binary, large = (
        tmp_path / name for name in ("bad.yaml", "missing.yaml", "binary.yaml", "large.yaml")
    )
    bad.write_text(GOOD.replace("Effect: Allow", "Effect: Permit"))
    binary.write_bytes(b"a: b\nc: \xff")
    large.write_bytes(b"#" * (source.MAX_BYTES + 1))
    routes = [route(path, path.name) for path in (bad, missing, binary, large)]
    routes.append(route(bad, "again", ROUTE_ARN.replace("orders", "again")))
    with pytest.raises(ConfigError) as raised:
        load_policy_set(routes, [GrantPolicies(match=GrantMatch(group="dev"), paths=(missing,))])
    found = [(Path(one.file).name, one.line, one.column, one.message) for one in raised.value.problems]
    assert found == [
        ("bad.yaml", 4, 13, "`Effect` must be `Allow` or `Deny`, not `Permit`"),
        ("binary.yaml", 2, 4, "is not UTF-8 text"),
        ("large.yaml", 1, 1, f"is larger than {source.MAX_BYTES} bytes"),
        ("missing.yaml", 1, 1, "cannot be read: No such file or directory"),
    ]


def test_a_reload_swaps_the_whole_set_or_nothing(tmp_path: Path) -> None:
    orders = tmp_path / "orders.yaml"
    orders.write_text(GOOD)
    policies = FilePolicySource([route(orders)], [])
    first = policies.current()
    orders.write_text(GOOD.replace("GET", "POST"))
    assert policies.current() is first
    second = policies.reload()
    assert policies.current() is second
    assert second.digest != first.digest
    assert not evaluate(second, request()).allowed
    orders.write_text("nonsense")
    with pytest.raises(ConfigError):
        policies.reload()
    assert policies.current() is second
