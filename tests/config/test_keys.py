"""Which keys exist, and what is said of those that do not."""

from __future__ import annotations

import pytest

from ztproxy.config.base import NOT_YET, Model
from ztproxy.config.document import Place
from ztproxy.config.keys import all_keys, closest, model_at, unknown_key
from ztproxy.config.listener import Authority, Listener
from ztproxy.config.models import Config, Route, VpcEndpoint


@pytest.mark.parametrize(
    ("place", "model"),
    [
        ((), Config),
        (("listeners", 0), Listener),
        (("listeners", 3, "tls", "client_certificates", "authorities", 0), Authority),
        (("network", "vpc_endpoints", "vpce-1"), VpcEndpoint),
        (("routes", 0), Route),
        (("routes",), None),
        (("network", "vpc_endpoints"), None),
        (("routes", 0, "name"), None),
        (("routes", 0, "unknown", "deeper"), None),
        (("access_keys", 0, "tags", "team"), None),
    ],
)
def test_model_at_a_place(place: Place, model: type[Model] | None) -> None:
    assert model_at(place) is model


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (("listners",), "unknown key; did you mean `listeners`?"),
        (("routes", 0, "denyDetail"), "unknown key; did you mean `deny_detail`?"),
        (("routes", 0, "deny-detail"), "unknown key; did you mean `deny_detail`?"),
        (("routes", 0, "AUTHENTICATE"), "unknown key; did you mean `authenticate`?"),
        (("arn", "zone"), "unknown key; known here: `partition`, `region`, `account`"),
        (("databases",), NOT_YET),
        (("accounts",), NOT_YET),
        (("routes", 0, "name", "x"), "unknown key"),
        (("k" * 100_000,), None),
    ],
)
def test_unknown_key(place: Place, said: str | None) -> None:
    found = unknown_key(place)
    assert found == said if said is not None else found.startswith("unknown key; known here: `version`")


def test_closest_keeps_the_candidate_as_written() -> None:
    assert closest("corp-oidc", ("Corp_OIDC", "other")) == "Corp_OIDC"
    assert closest("xyz", ()) is None


def test_all_keys_are_written_as_the_documentation_writes_them() -> None:
    keys = list(all_keys())
    assert len(keys) == len(set(keys))
    for key in (
        "version",
        "listeners[].tls.more[].names",
        "listeners[].tls.client_certificates.authorities[].spiffe",
        "network.vpc_endpoints.*.vpc",
        "issuers[].claims.tags",
        "routes[].authenticate.all_of",
        "grants[].match.spiffe",
    ):
        assert key in keys
