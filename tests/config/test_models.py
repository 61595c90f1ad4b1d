"""Every other field wrong, one at a time; and what a sound configuration comes to."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.config.sample import WHOLE, broken, loaded, problems
from ztproxy.config.models import Audit, Upstream
from ztproxy.errors import Problem

WRONG = [
    # what stands in the sample, what takes its place (§: where the problem is), what is said of it
    ("version: 1", "version: §2", "version: must be `1`, the only version of this format (got 2)"),
    ("version: 1", "version: §true", "version: must be `1`, the only version of this format (got true)"),
    ("version: 1\n", "version: §'1'\n", "version: must be `1`, the only version of this format (got `1`)"),
    (
        "partition: aws",
        "partition: §azure",
        "arn.partition: must be a partition, such as `aws` or `aws-cn` (got `azure`)",
    ),
    ("region: eu-west-1,", "region: §EU,", "arn.region: must be a region, such as `eu-west-1` (got `EU`)"),
    (
        'account: "111122223333"}\nl',
        "account: §111122223333}\nl",
        "arn.account: must be text; put it in quotes (got 111122223333)",
    ),
    (
        'account: "111122223333"}\nl',
        "account: §012345678901}\nl",
        "arn.account: YAML readers disagree on this number; put text in quotes, write numbers in plain digits",
    ),
    (
        'account: "111122223333"}\nl',
        'account: §"1111"}\nl',
        "arn.account: must be the 12 digits of an account (got `1111`)",
    ),
    ("arn: {partition", "arn: {§partion: aws, partition", "arn.partion: unknown key; did you mean `partition`?"),
    (
        "vpce-0123456789abcdef0: {",
        "§vpce-XYZ: {",
        "network.vpc_endpoints.vpce-XYZ: must be the id of a VPC endpoint, `vpce-...` (got `vpce-XYZ`)",
    ),
    (
        "vpc: vpc-0a1b2c3d",
        "vpc: §0a1b2c3d",
        "network.vpc_endpoints.vpce-0123456789abcdef0.vpc: must be the id of a VPC, `vpc-...` (got `0a1b2c3d`)",
    ),
    (
        'account: "444455556666"',
        'account: §"4444"',
        "network.vpc_endpoints.vpce-0123456789abcdef0.account: must be the 12 digits of an account (got `4444`)",
    ),
    (
        "{vpc: vpc",
        "{§policy: p.json, vpc: vpc",
        "network.vpc_endpoints.vpce-0123456789abcdef0.policy: not supported by this version yet",
    ),
    (
        "  - name: orders",
        "  - name: §orders/x",
        (
            "routes.0.name: must be 1 to 64 letters, digits, `.`, `_` or `-`, beginning with a letter or digit "
            "(got `orders/x`)"
        ),
    ),
    (
        "stage: prod",
        "stage: §prod/eu",
        "routes.0.stage: must be a stage: 1 to 128 letters, digits, `$`, `_` or `-` (got `prod/eu`)",
    ),
    (
        "api_id: orders",
        "api_id: §'*'",
        "routes.0.api_id: must be an API id: 1 to 64 letters, digits, `.`, `_` or `-` (got `*`)",
    ),
    (
        "host: api.example.com",
        "host: §api.example.com:443",
        (
            "routes.0.host: must be a host name without port or final dot, `*.` and such a name, or `*` (got "
            "`api.example.com:443`)"
        ),
    ),
    (
        "host: api.example.com",
        "host: §api.*.com",
        (
            "routes.0.host: must be a host name without port or final dot, `*.` and such a name, or `*` (got "
            "`api.*.com`)"
        ),
    ),
    (
        "host: api.example.com",
        "host: §bücher.example",
        "routes.0.host: must be written in its ASCII form, `xn--...` (got `bücher.example`)",
    ),
    ("path: /orders/**", "path: §''", "routes.0.path: must not be empty"),
    ("path: /orders/**", "path:§", "routes.0.path: has no value; write one or remove the key"),
    (
        "policy: policies/orders.yaml",
        "policy: §file:policies/orders.yaml",
        "routes.0.policy: must be a plain path, without `file:` (got `file:policies/orders.yaml`)",
    ),
    ("policy: policies/orders.yaml", "policy: §[a]", "routes.0.policy: must be text (got a list)"),
    (
        "url: https://orders.internal:8443",
        "url: §orders.internal:8443",
        "routes.0.upstream.url: must be `http://host:port` or `https://host:port` (got `orders.internal:8443`)",
    ),
    (
        "url: https://orders.internal:8443",
        "url: §https://orders.internal:8443/v1",
        (
            "routes.0.upstream.url: must have no path; the upstream gets the path that was asked for (got "
            "`https://orders.internal:8443/v1`)"
        ),
    ),
    (
        "url: https://orders.internal:8443",
        "url: §ftp://orders.internal",
        "routes.0.upstream.url: must be `http://host:port` or `https://host:port` (got `ftp://orders.internal`)",
    ),
    (
        "url: https://orders.internal:8443",
        "url: §https://orders_internal..x",
        ("routes.0.upstream.url: must be `http://host:port` or `https://host:port` (got `https://orders_internal..x`)"),
    ),
    (
        "      url: https",
        "      §urls: [x]\n      url: https",
        "routes.0.upstream.urls: not supported by this version yet",
    ),
    (
        "tls: {ca: file:tls/staff-ca.pem, cert",
        "tls: {ca: §staff, cert",
        "routes.0.upstream.tls.ca: must be a reference to a file, `file:<path>`",
    ),
    (
        "server_name: orders.internal}",
        "server_name: §'*.internal'}",
        "routes.0.upstream.tls.server_name: must be a host name without port or final dot (got `*.internal`)",
    ),
    (
        "max_connections: 100",
        "max_connections: §0",
        "routes.0.upstream.pool.max_connections: must be at least 1 (got 0)",
    ),
    (
        "max_connections: 100",
        "max_connections: §100000",
        "routes.0.upstream.pool.max_connections: must be at most 10000 (got 100000)",
    ),
    ("audit: required", "audit: §always", "routes.0.audit: must be one of `buffered`, `required` (got `always`)"),
    (
        "deny_detail: reason",
        "deny_detail: §all",
        "routes.0.deny_detail: must be one of `id`, `reason`, `full` (got `all`)",
    ),
    ("connect_s: 3", "connect_s: §61", "routes.0.timeouts.connect_s: must be at most 60 (got 61)"),
    ("response_s: 60", "response_s: §-1", "routes.0.timeouts.response_s: must be more than 0 (got -1)"),
    ("total_s: 300", "total_s: §'300'", "routes.0.timeouts.total_s: must be a number (got `300`)"),
    ("body_bytes: 10485760", "body_bytes: §10MiB", "routes.0.limits.body_bytes: must be a whole number (got `10MiB`)"),
    (
        "{body_bytes",
        "{§rate_per_principal: 50/s, body_bytes",
        "routes.0.limits.rate_per_principal: not supported by this version yet",
    ),
    ("    audit: required", "    §cors: {}\n    audit: required", "routes.0.cors: not supported by this version yet"),
    (
        "    audit: required",
        "    §retries: 5\n    audit: required",
        (
            "routes.0.retries: unknown key; known here: `name`, `stage`, `api_id`, `host`, `path`, "
            "`authenticate`, `policy`, `upstream`, `audit`, `deny_detail`, `timeouts`, `limits`"
        ),
    ),
    ("spool: spool", "spool: §file:spool", "audit.spool: must be a plain path, without `file:` (got `file:spool`)"),
    ("segment_bytes: 67108864", "segment_bytes: §1", "audit.segment_bytes: must be at least 65536 (got 1)"),
    ("{spool", "{§ship: [], spool", "audit.ship: not supported by this version yet"),
    ("version: 1", "version: 1\n§workers: auto", "workers: not supported by this version yet"),
    ("version: 1", "version: 1\n§route: x", "route: unknown key; did you mean `routes`?"),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG)
def test_wrong_field_gets_one_line(folder: Path, old: str, new: str, message: str) -> None:
    text, place = broken(old, new)
    assert problems(folder, text) == [f"{place}: {message}"]


@pytest.mark.parametrize(
    ("line", "place", "key"),
    [
        ("version: 1\n", "1:1", "version"),
        ("    bind: 127.0.0.1:8443\n", "4:5", "listeners.0.bind"),
        ("    protocol: http\n", "4:5", "listeners.0.protocol"),
        ("      key: file:tls/edge.key\n", "9:7", "listeners.0.tls.key"),
        ("    audiences: [api://orders]\n", "21:5", "issuers.0.audiences"),
        ("    host: api.example.com\n", "38:5", "routes.0.host"),
        ("      url: https://orders.internal:8443\n", "46:7", "routes.0.upstream.url"),
    ],
)
def test_missing_key_is_required_where_it_belongs(folder: Path, line: str, place: str, key: str) -> None:
    assert WHOLE.count(line) == 1
    assert problems(folder, WHOLE.replace(line, "")) == [f"{place}: {key}: is required"]


def test_all_problems_come_at_once_in_the_order_of_the_file(folder: Path) -> None:
    text = (
        WHOLE.replace("leeway_s: 60", "leeway_s: 600")
        .replace("bind: 127.0.0.1:8443", "bind: edge")
        .replace("audit: required", "audits: required")
        .replace('account: "111122223333"', "account: 011122223333")
        .replace("user: ci,", "user: ci, user: cd,")
    )
    found = problems(folder, text)
    assert [line.partition(": ")[2].partition(":")[0] for line in found] == [
        "arn.account",
        "listeners.0.bind",
        "issuers.0.leeway_s",
        "access_keys.0.user",
        "routes.0.audits",
    ]


def test_smallest_configuration_gets_the_documented_defaults(folder: Path) -> None:
    config = loaded(folder, SMALLEST)
    route = config.routes[0]
    assert (config.arn.partition, config.arn.region, config.arn.account) == ("aws", "eu-west-1", "000000000000")
    assert (route.stage, route.api_id, route.path, route.authenticate) == ("prod", None, "/**", None)
    assert (route.audit, route.deny_detail, route.limits.body_bytes) == ("buffered", None, 10 * 1024 * 1024)
    assert (route.timeouts.connect_s, route.timeouts.response_s, route.timeouts.total_s) == (3, 60, 300)
    assert (route.upstream.pool.max_connections, config.audit.segment_bytes) == (100, 64 * 1024 * 1024)


SMALLEST = """\
version: 1
listeners:
  - {name: edge, bind: 127.0.0.1:0, protocol: http, tls: {certificate: file:tls/edge.pem, key: file:tls/edge.key}}
issuers:
  - {name: corp, issuer: http://localhost:9100, audiences: [api://orders]}
routes:
  - {name: orders, host: "*", upstream: {url: http://127.0.0.1:9000}, policy: policies/orders.yaml}
"""


def test_configuration_cannot_be_changed(folder: Path) -> None:
    config = loaded(folder, WHOLE)
    with pytest.raises(ValidationError):
        config.routes[0].stage = "dev"


def test_later_problems_point_into_the_file(folder: Path) -> None:
    config = loaded(folder, WHOLE)
    assert config.file == str(folder / "config.yaml")
    assert config.problem(("routes", 0, "policy"), "line 3: no such operator") == Problem(
        config.file, 44, 13, "routes.0.policy: line 3: no such operator"
    )
    assert config.problem(("routes", 0, "limits", "unwritten"), "x").line == 52


def test_configuration_made_by_hand_has_no_file() -> None:
    upstream = Upstream.model_validate({"url": "https://[::1]"})
    assert (upstream.host, upstream.port, upstream.secure) == ("::1", 443, True)
    plain = Upstream.model_validate({"url": "http://Orders.internal:81/"})
    assert (plain.host, plain.port, plain.secure) == ("orders.internal", 81, False)


@pytest.mark.parametrize(
    ("environ", "spool"),
    [
        ({"STATE_DIRECTORY": "/var/lib/ztproxy:/var/lib/other"}, "/var/lib/ztproxy/audit"),
        ({"XDG_STATE_HOME": "/home/ada/state"}, "/home/ada/state/ztproxy/audit"),
        ({"XDG_STATE_HOME": "state", "HOME": "/home/ada"}, "/home/ada/.local/state/ztproxy/audit"),
        ({"HOME": "/home/ada"}, "/home/ada/.local/state/ztproxy/audit"),
    ],
)
def test_spool_has_a_home_of_its_own(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], spool: str) -> None:
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert Audit().spool == Path(spool)
