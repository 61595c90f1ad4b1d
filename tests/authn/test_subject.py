from __future__ import annotations

import pytest

from ztproxy.authn.subject import MAX_SUBJECT_CHARACTERS, is_email, is_identity_text


@pytest.mark.parametrize(
    "text", ["ada", "Ada Lovelace", "Jürgen-名", "Ju\u0308rgen", "a" * MAX_SUBJECT_CHARACTERS, "a,b"]
)
def test_names(text: str) -> None:
    assert is_identity_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ada",
        "ada ",
        "a" * (MAX_SUBJECT_CHARACTERS + 1),
        "ada\r\nX-Groups: admin",
        "ada\x00admin",
        "ada\u202eadmin",
        "ada\u200b",
        "ada\u00a0",
        "ada\u2028",
        "ada\ue000",
        "\ud800",
        None,
        1,
        True,
        ["ada"],
    ],
)
def test_what_names_nobody(text: object) -> None:
    assert not is_identity_text(text)


@pytest.mark.parametrize("text", ["ada@example.com", "a.b+c@EXAMPLE.com", "ada@localhost", "ada@a-b.example"])
def test_addresses(text: str) -> None:
    assert is_email(text)


@pytest.mark.parametrize(
    "text",
    [
        "ada",
        "@example.com",
        "ada@",
        "ada@example.com@attacker.example",
        '"ada@x"@example.com',
        "ada @example.com",
        "ada@example.com.",
        "ada@.example.com",
        "ada@exa mple.com",
        "ada@exаmple.com",
        "ada@-example.com",
        "ada@example-.com",
        "ada@" + "a" * 64 + ".com",
        " ada@example.com",
        None,
    ],
)
def test_what_is_no_address(text: object) -> None:
    assert not is_email(text)
