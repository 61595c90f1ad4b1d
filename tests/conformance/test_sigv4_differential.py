"""botocore is the other side: what it signs is accepted, and one changed byte only where it means the same.

What means the same is told by botocore's own path rule and a query rule written here, apart from the code under test.
"""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes

from botocore.auth import SigV4Auth
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.authn.signer import ARN, accepted, authenticator, changed, judged, signed
from ztproxy.types import Identity, SignedRequest

SEGMENT = st.text("abZ09-._~ %$+*!'():@&=,;é", max_size=6)
PATHS = st.lists(SEGMENT, min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join(quote(part, "$+*!'():@&=,;") for part in parts)
)
PAIRS = st.lists(st.tuples(SEGMENT, SEGMENT), max_size=4).map(
    lambda pairs: "&".join(f"{quote(name, '')}={quote(value, '')}" for name, value in pairs)
)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
REQUESTS = st.tuples(st.sampled_from(["execute-api", "s3"]), PATHS, PAIRS, VALUES, st.binary(max_size=40))
BY = authenticator()


def drawn(service: str, path: str, query: str, value: str, body: bytes) -> SignedRequest:
    if service == "s3":
        # botocore signs an S3 path as it stands, and its S3 client writes object keys in this encoding.
        path = quote(unquote_to_bytes(path), safe="/~")
    target = f"{path}?{query}" if query else path
    return signed(target, method="PUT", headers={"X-Note": value}, body=body, service=service)


@settings(max_examples=150, deadline=None)
@given(REQUESTS)
def test_what_botocore_signs_is_accepted(request: tuple[str, str, str, str, bytes]) -> None:
    assert accepted(drawn(*request), by=BY).subject == ARN


def reference(service: str, target: bytes) -> tuple[str, list[tuple[str, ...]]]:
    """Path as botocore makes it canonical, query as AWS prescribes; written apart from the code under test."""
    path, _, query = target.partition(b"?")
    if service == "s3":
        canonical_path = quote(unquote_to_bytes(path), safe="/~")
    else:
        signer = SigV4Auth(Credentials("a", "b"), service, "eu-west-1")
        canonical_path = signer._normalize_url_path(path.decode())
    pairs = [pair.partition(b"=")[::2] for pair in query.split(b"&")] if query else []
    return canonical_path, sorted(tuple(quote(unquote_to_bytes(side), safe="~") for side in pair) for pair in pairs)


@settings(max_examples=200, deadline=None)
@given(REQUESTS, st.data())
def test_target_changed_in_one_byte_passes_only_if_it_is_canonically_the_same(
    parts: tuple[str, str, str, str, bytes], data: st.DataObject
) -> None:
    request = drawn(*parts)
    target = request.raw_target
    position = data.draw(st.integers(0, len(target) - 1))
    byte = data.draw(st.integers(0x21, 0x7E).filter(lambda byte: byte != target[position]))
    mutated = target[:position] + bytes((byte,)) + target[position + 1 :]
    answer = judged(changed(request, target=mutated), by=BY)
    if isinstance(answer, Identity):
        path, _, query = mutated.partition(b"?")
        as_sent = (path.decode(), query.decode())
        canonical_path, pairs = reference(parts[0], target)
        same = reference(parts[0], mutated) == (canonical_path, pairs)
        assert same or as_sent == (canonical_path, "&".join("=".join(pair) for pair in pairs))
    else:
        assert answer.code in ("authn.sigv4-query", "authn.sigv4-mismatch")
        assert answer.code == "authn.sigv4-query" or reference(parts[0], mutated) != reference(parts[0], target)


@settings(max_examples=100, deadline=None)
@given(REQUESTS, st.data())
def test_signed_value_changed_in_one_byte_passes_only_as_blanks(
    parts: tuple[str, str, str, str, bytes], data: st.DataObject
) -> None:
    request = drawn(*parts)
    signed_names = next(value for name, value in request.raw_headers if name == b"Authorization").split(
        b"SignedHeaders="
    )[1]
    number, (name, value) = data.draw(
        st.sampled_from(
            [
                (number, (name, value))
                for number, (name, value) in enumerate(request.raw_headers)
                if name.lower() in signed_names.split(b",")[0].split(b";") and value
            ]
        )
    )
    position = data.draw(st.integers(0, len(value) - 1))
    byte = data.draw(st.integers(0x20, 0x7E).filter(lambda byte: byte != value[position]))
    mutated = value[:position] + bytes((byte,)) + value[position + 1 :]
    headers = (*request.raw_headers[:number], (name, mutated), *request.raw_headers[number + 1 :])
    answer = judged(changed(request, headers=headers), by=BY)
    assert isinstance(answer, Identity) is (b" ".join(value.split()) == b" ".join(mutated.split()))


@settings(max_examples=50, deadline=None)
@given(REQUESTS, st.integers(0, 63), st.sampled_from("0123456789abcdef"))
def test_body_hash_changed_in_one_digit_is_refused(
    parts: tuple[str, str, str, str, bytes], position: int, digit: str
) -> None:
    request = drawn(*parts)
    assert request.body_sha256 is not None
    mutated = request.body_sha256[:position] + digit + request.body_sha256[position + 1 :]
    answer = judged(changed(request, body_sha256=mutated), by=BY)
    assert isinstance(answer, Identity) is (mutated == request.body_sha256)
