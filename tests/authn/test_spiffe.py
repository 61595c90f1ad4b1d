from __future__ import annotations

import pytest

from ztproxy.authn.spiffe import MAX_ID_CHARACTERS, SpiffeId, parse_spiffe_id


@pytest.mark.parametrize(
    ("text", "trust_domain", "path"),
    [
        ("spiffe://prod.example.com", "prod.example.com", ""),
        ("spiffe://prod.example.com/billing", "prod.example.com", "/billing"),
        ("spiffe://1.2.3.4/a/B/...", "1.2.3.4", "/a/B/..."),
        ("spiffe://" + "a" * 255 + "/p", "a" * 255, "/p"),
    ],
)
def test_ids(text: str, trust_domain: str, path: str) -> None:
    spiffe_id = parse_spiffe_id(text)
    assert spiffe_id == SpiffeId(trust_domain=trust_domain, path=path)
    assert str(spiffe_id) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe://",
        "SPIFFE://td/p",
        "https://td/p",
        "spiffe:///p",
        "spiffe://TD/p",
        "spiffe://td/",
        "spiffe://td//p",
        "spiffe://td/p/",
        "spiffe://td/./p",
        "spiffe://td/p/..",
        "spiffe://td:443/p",
        "spiffe://user@td/p",
        "spiffe://td/p?q",
        "spiffe://td/p#f",
        "spiffe://td/%61",
        "spiffe://td/p\n",
        "spiffe://td/p\x00",
        "spiffe://td/é",
        "spiffe://" + "a" * 256 + "/p",
        "spiffe://td/" + "p" * MAX_ID_CHARACTERS,
    ],
)
def test_not_ids(text: str) -> None:
    with pytest.raises(ValueError):
        parse_spiffe_id(text)
