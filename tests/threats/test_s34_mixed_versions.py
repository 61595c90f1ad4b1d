"""S34: a policy says which version of the language it is written in, and a node that does not know it refuses it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.authz.requests import ROUTE_ARN, policy, request, statement
from ztproxy.authz.evaluate import evaluate
from ztproxy.authz.index import build_policy_set
from ztproxy.authz.parse import parse_policy
from ztproxy.authz.source import FilePolicySource, RoutePolicy
from ztproxy.errors import ConfigError


@pytest.mark.parametrize("version", [None, "", "2012-10-18", "2031-01-01", "2012", "v2", ["2012-10-17"], {"a": "b"}])
def test_an_unknown_version_is_refused(version: object) -> None:
    said = {"Version": version, "Statement": statement()}
    text = json.dumps({name: value for name, value in said.items() if value is not None})
    with pytest.raises(ConfigError, match=r"[Vv]ersion"):
        parse_policy(text, file="p.json", kind="resource", route_arn=ROUTE_ARN)


def test_a_version_keeps_its_own_meaning() -> None:
    mine = statement(Resource=f"{ROUTE_ARN}/GET/${{aws:username}}")
    ada = request(f"{ROUTE_ARN}/GET/ada", identity={"aws:username": "ada"})
    literal = request(f"{ROUTE_ARN}/GET/${{aws:username}}", identity={"aws:username": "ada"})
    new = build_policy_set({"orders": policy(mine)}, [])
    old = build_policy_set({"orders": policy(mine, version="2008-10-17")}, [])
    assert [evaluate(new, one).allowed for one in (ada, literal)] == [True, False]
    assert [evaluate(old, one).allowed for one in (ada, literal)] == [False, True]
    assert new.digest != old.digest


def test_a_running_node_keeps_what_it_knows(tmp_path: Path) -> None:
    file = tmp_path / "orders.json"
    file.write_text(json.dumps({"Version": "2012-10-17", "Statement": statement()}))
    source = FilePolicySource([RoutePolicy(route="orders", arn=ROUTE_ARN, path=file)], [])
    before = source.current()
    file.write_text(file.read_text().replace("2012-10-17", "2031-01-01"))
    with pytest.raises(ConfigError, match="2031-01-01"):
        source.reload()
    assert source.current() is before
