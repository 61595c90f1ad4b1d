from __future__ import annotations

import base64
import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.authn.tokens import token
from ztproxy.authn.jose import (
    MAX_HEADER_BYTES,
    MAX_KID_CHARACTERS,
    MAX_TOKEN_BYTES,
    CompactJws,
    JoseHeader,
    NotStrictJson,
    decode_base64url,
    read_compact,
    read_object,
)
from ztproxy.errors import Unauthenticated


def encoded(octets: bytes) -> bytes:
    return base64.urlsafe_b64encode(octets).rstrip(b"=")


def refused(text: bytes, code: str = "authn.token-malformed") -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        read_compact(text)
    assert caught.value.code == code
    return caught.value


def with_header(header: bytes) -> bytes:
    return encoded(header) + b"." + encoded(b"{}") + b"." + encoded(b"signature")


def test_the_parts_of_a_token() -> None:
    text = token()
    header, payload, signature = text.split(b".")
    jws = read_compact(text)
    assert jws == CompactJws(
        header=JoseHeader(algorithm="RS256", kid="rsa-1", typ="JWT"),
        signing_input=header + b"." + payload,
        payload=base64.urlsafe_b64decode(payload + b"=="),
        signature=base64.urlsafe_b64decode(signature + b"=="),
    )


@settings(max_examples=200)
@given(st.binary(max_size=80))
def test_base64url_has_one_spelling(octets: bytes) -> None:
    text = encoded(octets)
    assert decode_base64url(text) == octets


@settings(max_examples=200)
@given(st.text("AQgwZ-_+/=. \n", max_size=9).map(str.encode))
def test_any_other_spelling_is_refused(text: bytes) -> None:
    try:
        octets = decode_base64url(text)
    except ValueError:
        return
    assert encoded(octets) == text


@pytest.mark.parametrize("text", [b"Zg==", b"Zh", b"Z", b"Zm+v", b"Zm/v", b"Zm\nv", b"Zm9vYmFyZ", "Zé".encode()])
def test_padding_junk_spare_bits_and_the_other_alphabet_are_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        decode_base64url(text)


@pytest.mark.parametrize(
    "text", [b"", b".", b"..", b"a.b", b"e30.e30", b"e30.e30.e30.e30", b"e30.e30.e30.", b"\xff.\xff.\xff"]
)
def test_three_parts_or_none(text: bytes) -> None:
    refused(text)


def test_the_size_limit_is_exact() -> None:
    head, _, rest = token().partition(b".")
    filler = MAX_TOKEN_BYTES - len(head) - len(rest.split(b".")[1]) - 2
    payload = b"A" * (filler - filler % 4)
    fits = head + b"." + payload + b"." + rest.split(b".")[1]
    assert len(read_compact(fits).payload) == len(payload) // 4 * 3
    refused(fits + b"A" * (MAX_TOKEN_BYTES + 1 - len(fits)), "authn.token-size")


def test_the_header_limit_comes_before_its_decoding() -> None:
    error = refused(b"A" * (MAX_HEADER_BYTES + 1) + b".e30.e30")
    assert "longer" in error.detail


@pytest.mark.parametrize(
    ("header", "word"),
    [
        (b"[]", "object"),
        (b"", "valid json"),
        (b'{"alg":"RS256"', "valid json"),
        (b'{"alg":"RS256","alg":"none"}', "repeated"),
        (b'{"alg":"RS256","alg":"RS256"}', "repeated"),
        (b"{}", "no algorithm"),
        (b'{"alg":1}', "`alg` is not a string"),
        (b'{"alg":null}', "`alg` is not a string"),
        (b'{"alg":["RS256"]}', "`alg` is not a string"),
        (b'{"alg":"RS256","kid":{}}', "`kid` is not a string"),
        (b'{"alg":"RS256","kid":"a\\u0000b"}', "key id"),
        (b'{"alg":"RS256","kid":"' + b"k" * (MAX_KID_CHARACTERS + 1) + b'"}', "key id"),
        (b'{"alg":"RS256","typ":1}', "`typ` is not a string"),
        (b'{"alg":"RS256","crit":["exp"],"exp":1}', "other than"),
        (b'{"alg":"RS256","b64":false}', "other than"),
        (b'{"alg":"RS256","jku":"https://attacker.example/"}', "other than"),
        (b'{"alg":"RS256","jwk":{}}', "other than"),
        (b'{"alg":"RS256","x5u":"https://attacker.example/"}', "other than"),
        (b'{"alg":"RS256","x5c":[]}', "other than"),
        (b'{"alg":"RS256","zip":"DEF"}', "other than"),
        (b'{"alg":"RS256"}'.decode().encode("utf-16"), "valid json"),
        (b'\xef\xbb\xbf{"alg":"RS256"}', "valid json"),
    ],
)
def test_a_header_is_four_strings(header: bytes, word: str) -> None:
    assert word in refused(with_header(header)).detail


def test_white_space_in_a_header_is_json() -> None:
    assert read_compact(with_header(b'{ "alg" : "ES256" ,\r\n "x5t" : "abc" }')).header == JoseHeader(
        algorithm="ES256", x5t="abc"
    )


def test_a_broken_payload_or_signature_part() -> None:
    header = encoded(b'{"alg":"RS256"}')
    refused(header + b".e30=.e30")
    refused(header + b".e30.e3")


@pytest.mark.parametrize(
    ("typ", "media_type"), [(None, None), ("JWT", "jwt"), ("at+JWT", "at+jwt"), ("application/at+jwt", "at+jwt")]
)
def test_media_types(typ: str | None, media_type: str | None) -> None:
    assert JoseHeader(algorithm="RS256", typ=typ).media_type == media_type


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":1}',
        b'{"a":1, "a" :2}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":[{"b":[]},{"c":1,"\\u0063":2}]}',
        b'{"a":1}x',
        b'{"a":1}\x00',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e999}',
        b'{"a":1' + b"0" * 5000 + b"}",
        b'{"a":"\\ud800"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xff"}',
        b'{"a":/**/1}',
        b"null",
        b'"a"',
        b"[" * 8000,
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"a":' * 2000 + b"1" + b"}" * 2000,
        b'{"a":' * 300 + b"1" + b"}" * 300,
        b'{"a": ' * 1020 + b"1" + b"}" * 1020,
    ],
)
def test_json_that_readers_differ_on_is_refused(text: bytes) -> None:
    with pytest.raises(NotStrictJson):
        read_object(text)


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b'{"a":1,"b":{"a":2}}',
        b' {"a" : 1.50e3 , "b":[{"x":1},{"x":1}]}\r\n',
        '{"a":"J\\u00fcrgen","ü":"\\/"}'.encode(),
        b'{"n":123456789012345678901234567890}',
    ],
)
def test_good_json_is_read_as_json(text: bytes) -> None:
    assert read_object(text) == json.loads(text)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150)
@given(st.dictionaries(st.text(max_size=4), _values, max_size=4), st.sampled_from([None, 1]), st.booleans())
def test_reading_undoes_writing(value: dict[str, object], indent: int | None, ascii_only: bool) -> None:
    assert read_object(json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()) == value


@settings(max_examples=150)
@given(st.binary(max_size=60) | st.text("e30.A{}\"'=", max_size=30).map(str.encode))
def test_garbage_is_refused_in_order(text: bytes) -> None:
    with contextlib.suppress(Unauthenticated):
        read_compact(text)
