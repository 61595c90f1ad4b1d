"""S04: however a caller spells an identity field, the upstream reads exactly one, and it is ours."""

from __future__ import annotations

import itertools

import pytest

from tests.fakes.watch import WatchedHouse, served

OURS = {
    b"x-ztproxy-subject": b"bob",
    b"x-ztproxy-issuer": b"corp",
    b"x-ztproxy-method": b"jwt+certificate",
    b"x-ztproxy-groups": b'["dev"]',
}


def spellings(name: bytes) -> list[str]:
    text = name.decode()
    separated = [text.replace("-", mark) for mark in "-_."] + ["x_ztproxy-" + text[10:], "x-ztproxy_" + text[10:]]
    return [form for each in separated for form in (each, each.upper(), each.title())]


def folded(head: bytes) -> list[tuple[bytes, bytes]]:
    """The fields as a server files them that folds case, `_` and `.`, as CGI does."""
    fields = (line.partition(b":") for line in head.split(b"\r\n")[1:] if line)
    return [(name.lower().replace(b"_", b"-").replace(b".", b"-"), value.strip()) for name, _, value in fields]


@pytest.mark.parametrize("name", OURS)
def test_the_upstream_reads_exactly_one_and_it_is_ours(house: WatchedHouse, name: bytes) -> None:
    forms = spellings(name)
    with house.expecting(*served() * (len(forms) + 1), forwarded=len(forms) + 1):
        for form in forms:
            assert house.ask("GET /orders", f"{form}: root").status == 200
        assert house.ask("GET /orders", *(f"{form}: root" for form in forms)).status == 200
        seen = [request.head for request in house.upstream.requests[-len(forms) - 1 :]]
    for head in seen:
        assert [value for given, value in folded(head) if given == name] == [OURS[name]]
        assert b"root" not in head


@pytest.mark.parametrize(
    "name",
    [
        *("X-Ztproxy-Request-Id", "X-Ztproxy-Identity", "X-Ztproxy-Anything", "Client-Cert", "Client-Cert-Chain"),
        *("X-Client-Cert", "X-SSL-Client-Cert", "SSL_CLIENT_CERT", "Remote-User", "REMOTE_USER", "X-Remote-User"),
        *("X-Remote-Group", "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Access-Token"),
        *("X-Forwarded-Client-Cert", "X-Auth-Request-User", "X-Amzn-Oidc-Identity", "X-Amzn-Oidc-Data"),
        *("X-Amzn-Mtls-Clientcert", "x_amzn_oidc_identity", "X-Apigw-Api-Id"),
    ],
)
def test_what_other_proxies_would_say_is_not_passed_on(house: WatchedHouse, name: str) -> None:
    with house.expecting(*served(), forwarded=1):
        assert house.ask("GET /orders", f"{name}: root-by-header").status == 200
    assert b"root-by-header" not in house.upstream.requests[-2].head


@pytest.mark.parametrize("sub", ["bob\u00e9", "b, root", "b;root=1", 'b"x'])
def test_no_subject_writes_a_field_of_its_own(house: WatchedHouse, sub: str) -> None:
    with house.expecting(*served(), forwarded=1):
        token = house.tokens.token(sub=sub, groups=["dev", 'x", "root'])
        assert house.ask("GET /orders", token=token).status == 200
    request = house.upstream.requests[-2]
    for name in OURS:
        (value,) = request.values(name)
        assert value.isascii()
    names = [name for name, _ in folded(request.head)]
    assert [name for name, group in itertools.groupby(sorted(names)) if len(list(group)) > 1] == []
