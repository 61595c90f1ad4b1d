"""What botocore signs is let in; what was changed, late, or signed with another key gets AWS's own answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.parsers import create_parser

from tests.fakes.proxy import ACCESS_KEY, SECRET_KEY, Answer
from tests.fakes.signing import signature_of, signed
from tests.fakes.watch import WatchedHouse, refused, served

ORDER = b'{"item": 42}'


def declared(body: bytes) -> dict[str, str]:
    return {"X-Amz-Content-SHA256": hashlib.sha256(body).hexdigest()}


def asked(house: WatchedHouse, raw: bytes) -> Answer:
    house.keep_secret(signature_of(raw))
    return house.ask_on(house.connect(), raw)


@pytest.mark.parametrize(
    "raw",
    [
        signed,
        lambda: signed("GET /orders?b=2&a=1&flag=&sp=%20x"),
        lambda: signed("GET /orders/a%20b/%C3%A9"),
        lambda: signed("DELETE /orders/42"),
        lambda: signed("HEAD /orders/42"),
        lambda: signed("POST /orders", ORDER),
        lambda: signed("POST /orders", ORDER, headers=declared(ORDER)),
        lambda: signed("PUT /orders/1", b"x" * 300_000, headers=declared(b"x" * 300_000)),
        lambda: signed("PUT /orders/1", b"x" * 300_000),
        lambda: signed(headers={"X-Tenant": "  one   two "}),
        lambda: signed(late=timedelta(minutes=4)),
    ],
)
def test_what_is_signed_well_is_let_in(house: WatchedHouse, raw: Callable[[], bytes]) -> None:
    request = raw()
    with house.expecting(*served(), forwarded=1):
        answer = asked(house, request)
    assert answer.status == 200
    head, _, body = request.partition(b"\r\n\r\n")
    received = house.upstream.requests[-2]
    assert received.body == body
    assert received.line == head.partition(b"\r\n")[0]
    assert (received.values(b"x-ztproxy-subject"), received.values(b"x-ztproxy-method")) == (
        [b"arn:aws:iam::111122223333:user/ci"],
        [b"sigv4+certificate"],
    )
    for name in (b"authorization", b"x-amz-date", b"x-amz-content-sha256"):
        assert received.values(name) == []


REFUSED: dict[str, tuple[str, int, str, Callable[[], bytes]]] = {
    "wrong-secret": (
        "authn.sigv4-mismatch",
        403,
        "InvalidSignatureException",
        lambda: signed(secret="another-secret-key-that-opens-nothing"),
    ),
    "unknown-key": ("authn.sigv4-key", 403, "UnrecognizedClientException", lambda: signed(key_id="AKIDTESTEXAMPLE9")),
    "changed-target": (
        "authn.sigv4-mismatch",
        403,
        "InvalidSignatureException",
        lambda: signed().replace(b"/orders/42", b"/orders/43"),
    ),
    "changed-query": (
        "authn.sigv4-mismatch",
        403,
        "InvalidSignatureException",
        lambda: signed("GET /orders?a=1").replace(b"a=1", b"a=2"),
    ),
    "changed-method": (
        "authn.sigv4-mismatch",
        403,
        "InvalidSignatureException",
        lambda: signed("GET /orders/42").replace(b"GET ", b"DELETE "),
    ),
    "changed-field": (
        "authn.sigv4-mismatch",
        403,
        "InvalidSignatureException",
        lambda: signed(headers={"X-Tenant": "one"}).replace(b"X-Tenant: one", b"X-Tenant: two"),
    ),
    "changed-body": (
        "authn.sigv4-mismatch",
        403,
        "InvalidSignatureException",
        lambda: signed("POST /orders", ORDER).replace(b"42", b"43"),
    ),
    "added-body": (
        "authn.sigv4-mismatch",
        403,
        "InvalidSignatureException",
        lambda: signed("POST /orders").replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\nhi"),
    ),
    "removed-body": (
        "authn.sigv4-mismatch",
        403,
        "InvalidSignatureException",
        lambda: signed("POST /orders", ORDER).replace(b"\r\nContent-Length: 12", b"").replace(ORDER, b""),
    ),
    "stale": ("authn.sigv4-expired", 403, "InvalidSignatureException", lambda: signed(late=timedelta(minutes=6))),
    "from-the-future": (
        "authn.sigv4-expired",
        403,
        "InvalidSignatureException",
        lambda: signed(late=timedelta(minutes=-6)),
    ),
    "another-region": ("authn.sigv4-scope", 403, "InvalidSignatureException", lambda: signed(region="us-east-1")),
    "another-service": ("authn.sigv4-scope", 403, "InvalidSignatureException", lambda: signed(service="s3")),
    "unsigned-date": (
        "authn.sigv4-unsigned",
        403,
        "InvalidSignatureException",
        lambda: signed().replace(b"SignedHeaders=host;x-amz-date", b"SignedHeaders=host"),
    ),
    "broken-credential": (
        "authn.sigv4-incomplete",
        400,
        "IncompleteSignature",
        lambda: signed().replace(b"/aws4_request", b""),
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_gets_the_answer_of_aws(house: WatchedHouse, kind: str) -> None:
    code, status, aws_code, make = REFUSED[kind]
    raw = make()
    with house.expecting(refused(code)):
        answer = asked(house, raw)
    assert answer.status == status
    assert answer.value("x-amzn-errortype") == aws_code
    assert (answer.json["__type"], answer.json["requestId"]) == (aws_code, answer.value("x-amzn-requestid"))


def test_a_denied_signature_reads_as_access_denied(house: WatchedHouse) -> None:
    with house.expecting(refused("authz.denied-explicit")):
        answer = asked(house, signed("GET /x/admin/y"))
    assert (answer.status, answer.value("x-amzn-errortype")) == (403, "AccessDeniedException")


@pytest.mark.parametrize("piece", [len(ORDER), 1])
def test_a_body_that_is_not_the_one_declared_never_arrives_whole(house: WatchedHouse, piece: int) -> None:
    """Its hash is among the signed fields, so it streams; the last piece stays here until the hash is right."""
    head, _, _ = signed("POST /orders", ORDER, headers=declared(ORDER)).partition(b"\r\n\r\n")
    other = ORDER.replace(b"42", b"43")
    with house.expecting(*served("authn.sigv4-body")):
        connection = house.connect().send(head + b"\r\n\r\n")
        for at in range(0, len(other), piece):
            connection.send(other[at : at + piece])
        answer = connection.answer()
        connection.close()
    assert (answer.status, answer.value("x-amzn-errortype")) == (403, "InvalidSignatureException")


def test_a_token_and_a_signature_together_are_one_field_too_many(house: WatchedHouse) -> None:
    raw = signed().replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer " + house.tokens.token().encode() + b"\r\n\r\n")
    with house.expecting(refused("protocol.head")):
        answer = asked(house, raw)
    assert answer.status == 400


@pytest.mark.parametrize("protocol", ["json", "rest-json"])
@pytest.mark.parametrize("kind", ["wrong-secret", "unknown-key", "broken-credential"])
def test_the_parsers_of_botocore_understand_the_answer(house: WatchedHouse, kind: str, protocol: str) -> None:
    _, _, aws_code, make = REFUSED[kind]
    answer = asked(house, make())
    fields = dict(line.split(": ", 1) for line in answer.head.decode().split("\r\n")[1:])
    response = {"status_code": answer.status, "headers": AWSResponse("", answer.status, fields, None).headers}
    parsed = create_parser(protocol).parse({**response, "body": answer.body}, None)
    assert parsed["Error"]["Code"] == aws_code
    assert parsed["Error"]["Message"]
    assert parsed["ResponseMetadata"]["RequestId"] == answer.value("x-amzn-requestid")


@pytest.fixture
def boto(house: WatchedHouse, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """A client of the one API of boto3 that is signed for `execute-api`."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "localhost")
    monkeypatch.setattr("socket.getfqdn", lambda name="": name)
    clients: list[Any] = []

    def client(secret: str) -> Any:
        made = boto3.client(
            "apigatewaymanagementapi",
            endpoint_url=f"https://localhost:{house.ports['edge']}/chat",
            region_name="eu-west-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=secret,
            verify=str(house.staff.path),
            config=Config(
                client_cert=(str(house.bob.certificate), str(house.bob.key)), retries={"total_max_attempts": 1}
            ),
        )
        clients.append(made)
        return made

    yield client
    for made in clients:
        made.close()


def test_boto3_itself_is_served(house: WatchedHouse, boto: Callable[[str], Any]) -> None:
    with house.expecting(*served(), forwarded=1):
        boto(SECRET_KEY).post_to_connection(ConnectionId="L0SM9cOFvHcCIhw=", Data=json.dumps({"hello": 1}).encode())
    assert house.upstream.requests[-2].body == b'{"hello": 1}'


def test_boto3_itself_raises_what_was_refused(house: WatchedHouse, boto: Callable[[str], Any]) -> None:
    with house.expecting(refused("authn.sigv4-mismatch")), pytest.raises(ClientError) as caught:
        boto("another-secret-key-that-opens-nothing").post_to_connection(ConnectionId="c", Data=b"x")
    assert caught.value.response["Error"]["Code"] == "InvalidSignatureException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
