"""One request and its answer: bodies both ways, what breaks on either side, what is recorded, what is never sent."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from unittest.mock import Mock

import pytest

from tests.fakes.upstream import raw, respond
from tests.proxy import rude
from tests.proxy.inside import InsideHouse
from tests.proxy.wires import (
    MIB,
    MIB_IN_CHUNKS,
    all_of,
    chunks,
    cut,
    head,
    narrow,
    push,
    signed,
    soon,
    unchunked,
    vanish,
)
from ztproxy.errors import UpstreamError
from ztproxy.proxy import upstream as pool


@pytest.mark.parametrize("framing", ["counted", "chunked"])
def test_a_megabyte_goes_up_and_comes_down(house: InsideHouse, framing: str) -> None:
    house.upstream.answer = respond(MIB) if framing == "counted" else raw(rude.CHUNKED_MIB)
    connection = house.connect()
    if framing == "counted":
        connection.send(head("POST", "/", f"Content-Length: {len(MIB)}") + MIB)
    else:
        connection.send(head("POST", "/", "Transfer-Encoding: chunked") + MIB_IN_CHUNKS)
    answer = connection.answer()
    assert (answer.status, answer.body == MIB) == (200, True)
    (request,) = house.upstream.requests
    assert (request.body if framing == "counted" else unchunked(request.body)) == MIB
    assert request.values(b"content-length") == ([b"%d" % len(MIB)] if framing == "counted" else [])
    assert request.values(b"transfer-encoding") == ([] if framing == "counted" else [b"chunked"])
    end = house.end(answer)
    assert (end["code"], end["status"], end["bytes_in"], end["bytes_out"]) == ("completed", 200, len(MIB), len(MIB))
    house.upstream.answer = respond()
    assert connection.send(head("GET", "/next")).answer().body == b"hello"


def test_chunk_extensions_and_trailers_stay_behind(house: InsideHouse) -> None:
    connection, body = house.connect(), b"5;a=b\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"
    connection.send(head("POST", "/", "Transfer-Encoding: chunked") + body)
    assert connection.answer().json["body"] == "5\r\nhello\r\n0\r\n\r\n"
    house.upstream.answer = raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    assert all_of(connection.send(head("GET", "/", "Connection: close"))).endswith(b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")


@pytest.mark.parametrize("path", ["/dialled", "/pooled"])
def test_a_client_is_not_read_faster_than_its_upstream_takes(house: InsideHouse, path: str) -> None:
    """Also not when the first of the body came while the request was still being recorded and the upstream opened."""
    house.rude.speak = rude.deaf
    if path == "/pooled":
        assert house.get("/first", host="careful.test").status == 204
        narrow(lambda found: found.getpeername()[1] == house.rude.port)
    connection, total = house.connect(), 32 * 2**20
    connection.send(head("POST", path, f"Content-Length: {total}", host="careful.test"))
    taken = push(connection, total, seconds=0.3)
    assert taken < total / 2
    house.rude.hears.set()
    assert push(connection, total - taken, seconds=5) == total - taken
    assert connection.answer().status == 204


def test_100_continue_comes_once_the_request_is_allowed(house: InsideHouse) -> None:
    connection = house.connect()
    connection.send(house.request("POST /orders", "Expect: 100-continue", "Content-Length: 5"))
    assert connection.answer().head == b"HTTP/1.1 100 Continue"
    assert connection.send(b"hello").answer().json["body"] == "hello"
    assert house.upstream.requests[0].values(b"expect") == []


@pytest.mark.parametrize("token", [None, ""])
def test_a_refused_request_is_not_told_to_continue(house: InsideHouse, token: str | None) -> None:
    line = "POST /orders" if token == "" else "DELETE /orders"
    request = house.request(line, "Expect: 100-continue", "Content-Length: 5", token=token)
    answer = house.connect().send(request).answer()
    assert (answer.status, answer.value("connection")) == (401 if token == "" else 403, "close")


@pytest.mark.parametrize(("method", "sent", "status", "length"), rude.BODILESS.values(), ids=list(rude.BODILESS))
def test_an_answer_without_a_body_leaves_both_connections_good(
    house: InsideHouse, method: str, sent: bytes, status: int, length: str | None
) -> None:
    house.upstream.answer = raw(sent)
    connection = house.connect()
    for _ in range(2):
        answer = connection.send(head(method, "/")).answer(head_only=True)
        assert (answer.status, answer.value("content-length"), answer.value("transfer-encoding")) == (
            status,
            length,
            None,
        )
    assert len({request.connection for request in house.upstream.requests}) == 1


def test_early_hints_go_on_and_the_upstreams_own_continue_does_not(house: InsideHouse) -> None:
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    house.upstream.answer = raw(hints + b"HTTP/1.1 200 OK\r\nDate: then\r\nContent-Length: 5\r\n\r\nhello")
    connection = house.connect()
    hint = connection.send(head("GET", "/")).answer()
    assert (hint.status, hint.value("link"), hint.value("date")) == (103, "</a.css>", None)
    answer = connection.answer()
    assert (answer.body, answer.value("date")) == (b"hello", "then")
    assert house.connect().send(head("GET", "/", version="1.0")).answer().status == 200


@pytest.mark.parametrize("answer", [rude.CHUNKED_MIB, b"HTTP/1.1 200 OK\r\n\r\n" + MIB], ids=["chunked", "until close"])
def test_an_old_client_gets_a_body_of_unknown_length_until_the_end(house: InsideHouse, answer: bytes) -> None:
    house.upstream.answer = raw(answer, close=True)
    start, _, body = all_of(house.connect().send(head("GET", "/", version="1.0"))).partition(b"\r\n\r\n")
    assert (body == MIB, b"Connection: close" in start, b"chunked" in start) == (True, True, False)


def test_a_body_until_close_is_chunked_for_a_new_client(house: InsideHouse) -> None:
    house.upstream.answer = raw(b"HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\nhello", close=True)
    connection = house.connect()
    for _ in range(2):
        answer = connection.send(head("GET", "/")).answer()
        assert (answer.value("transfer-encoding"), answer.value("connection")) == ("chunked", None)
        assert (answer.body, (answer.value("date") or "")[-4:]) == (b"hello", " GMT")
    assert house.upstream.requests[0].connection != house.upstream.requests[1].connection


def test_an_answer_before_the_end_of_the_body_ends_both_connections(house: InsideHouse) -> None:
    house.rude.speak = rude.answering(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
    connection = house.connect()
    answer = connection.send(head("POST", "/", "Content-Length: 100", host="rude.test") + b"some").answer()
    assert (answer.status, answer.body, answer.value("connection")) == (413, b"no", "close")
    assert soon(lambda: not house.rude.open)
    assert house.end(answer)["code"] == "completed"


PHASES: dict[str, tuple[bytes, bytes]] = {
    "waiting for the answer": (head("GET", "/gone", host="rude.test"), b""),
    "sending the body": (head("POST", "/gone", "Content-Length: 9", host="rude.test") + b"some", b""),
    "taking the answer": (head("GET", "/gone", host="rude.test"), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome"),
}


@pytest.mark.parametrize("how", ["reset", "closed"])
@pytest.mark.parametrize(("sent", "answered"), PHASES.values(), ids=list(PHASES))
def test_a_client_that_vanishes_cancels_its_request_upstream_at_once(
    house: InsideHouse, sent: bytes, answered: bytes, how: str
) -> None:
    house.rude.speak = rude.answering(answered)
    connection, path = house.connect(), f"/gone/{time.monotonic_ns()}"
    connection.send(sent.replace(b"/gone", path.encode()))
    assert soon(lambda: house.rude.heard and b"\r\n\r\n" in house.rude.heard[0])
    if answered:
        connection.socket.recv(10)
    started = time.monotonic()
    vanish(connection, how)
    assert soon(lambda: not house.rude.open, seconds=1.0)
    assert time.monotonic() - started < 1.0
    end = house.last_end(path)
    moved = (sent.count(b"some") * 4, answered.count(b"some") * 4)
    assert (end["code"], end["bytes_in"], end["bytes_out"]) == ("client.closed", *moved)


def test_a_client_that_vanishes_while_it_waits_for_a_place_is_forgotten(house: InsideHouse) -> None:
    house.upstream.answer = rude.taking_its_time
    first, gone, path = house.connect(), house.connect(), f"/waits/{time.monotonic_ns()}"
    first.send(head("GET", "/holds", host="one.test"))
    assert soon(lambda: house.upstream.requests)
    gone.send(head("GET", path, host="one.test"))
    assert soon(lambda: any(record["path"] == path for record in house.records("access.decided")))
    vanish(gone, "reset")
    assert house.last_end(path)["code"] == "client.closed"
    assert first.answer().status == 204
    assert house.get("/after", host="one.test").status == 204
    assert len(house.upstream.requests) == 2


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("answer", rude.TRUNCATED.values(), ids=list(rude.TRUNCATED))
def test_an_upstream_that_dies_mid_body_is_seen_as_a_cut(house: InsideHouse, answer: bytes, version: str) -> None:
    house.upstream.answer = raw(answer, close=True)
    connection, path = house.connect(), f"/dies/{time.monotonic_ns()}"
    connection.send(head("GET", path, version=version))
    with pytest.raises(OSError, match=r"EOF|reset"):
        all_of(connection)
    end = house.last_end(path)
    assert (end["code"], end["status"], end["bytes_out"]) == ("upstream.truncated", 200, 5)


@pytest.mark.parametrize(("sent", "status", "code"), rude.NO_ANSWERS.values(), ids=list(rude.NO_ANSWERS))
def test_an_answer_that_is_none_becomes_a_502(house: InsideHouse, sent: bytes, status: int, code: str) -> None:
    house.upstream.answer = raw(sent, close=True)
    connection = house.connect()
    answer = connection.send(head("GET", "/")).answer()
    assert (answer.status, answer.json["code"], answer.value("connection")) == (status, code, None)
    assert (house.end(answer)["code"], house.end(answer)["status"]) == (code, status)
    house.upstream.answer = respond()
    assert connection.send(head("GET", "/")).answer().status == 200


def test_an_upstream_that_is_not_there_is_a_502(house: InsideHouse) -> None:
    answer = house.get(host="dead.test")
    assert (answer.status, answer.json["code"], house.end(answer)["code"]) == (502, *["upstream.connect"] * 2)


def test_an_upstream_that_says_nothing_is_a_504(house: InsideHouse) -> None:
    house.upstream.answer = rude.silent_after(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    started = time.monotonic()
    connection = house.connect().send(head("GET", "/", host="quick.test"))
    assert connection.answer().status == 103
    answer = connection.answer()
    assert (answer.status, answer.json["code"]) == (504, "upstream.timeout")
    assert 0.25 < time.monotonic() - started < 2
    assert house.end(answer)["detail"] == "response"


def test_an_upstream_that_falls_silent_mid_body_is_cut_off(house: InsideHouse) -> None:
    house.upstream.answer = rude.silent_after(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome")
    connection, path = house.connect(), f"/silent/{time.monotonic_ns()}"
    assert cut(connection.send(head("GET", path, host="quick.test")))
    assert house.last_end(path)["code"] == "upstream.timeout"


def test_a_grant_that_runs_out_ends_what_flows_under_it(house: InsideHouse) -> None:
    house.upstream.answer = rude.dripping
    connection, path = house.connect(), f"/drips/{time.monotonic_ns()}"
    assert cut(connection.send(head("GET", path, host="brief.test")))
    assert house.last_end(path)["code"] == "grant.expired"
    house.upstream.answer = rude.silent_after(b"")
    answer = house.get(host="brief.test")
    assert (answer.status, house.end(answer)["detail"]) == (504, "total")


def test_a_body_that_stops_coming_is_a_408(house: InsideHouse) -> None:
    answer = house.connect().send(head("POST", "/", "Content-Length: 9", host="quick.test") + b"some").answer()
    assert (answer.status, answer.json["code"], answer.value("connection")) == (408, "protocol.body-timeout", "close")
    assert house.end(answer)["bytes_in"] == 4
    gathered = house.connect(listener="hasty").send(signed(b"some more", fields=("Content-Length: 9",)) + b"some")
    answer = gathered.answer()
    assert (answer.status, answer.value("connection")) == (408, "close")
    assert house.of(answer)[0]["code"] == "protocol.body-timeout"


def test_a_stale_connection_is_replaced_for_what_may_be_repeated_and_only_once(house: InsideHouse) -> None:
    """Nothing of an answer came on a connection that had served before: for a GET nobody can tell the difference."""
    house.upstream.answer = rude.dying_on_reuse()
    connection = house.connect()
    assert connection.send(head("GET", "/1")).answer().status == 200
    for method in ("GET", "HEAD", "OPTIONS", "DELETE", "PUT"):
        before = len(house.upstream.requests)
        assert connection.send(head(method, "/again")).answer(head_only=True).status == 200
        assert len(house.upstream.requests) == before + 2
    for fields, body in (((), b""), (("Content-Length: 5",), b"hello")):
        before = len(house.upstream.requests)
        answer = connection.send(head("POST", "/once", *fields) + body).answer()
        assert (answer.status, answer.json["code"]) == (502, "upstream.closed")
        assert len(house.upstream.requests) == before + 1
        assert house.connect().send(head("GET", "/refill")).answer().status == 200
    house.upstream.answer = lambda *_: False
    before = len(house.upstream.requests)
    assert connection.send(head("GET", "/never")).answer().status == 502
    assert len(house.upstream.requests) == before + 2


@pytest.mark.parametrize("ends", ["upstream.connect", "client.closed"])
def test_a_repetition_that_fails_ends_as_any_other(
    house: InsideHouse, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    async def dial(*_: Any, **__: Any) -> None:
        dialled.append(ends)
        if ends == "client.closed":
            await asyncio.sleep(30)
        raise UpstreamError("upstream.connect", "the upstream cannot be reached")

    dialled: list[str] = []
    house.upstream.answer = rude.dying_on_reuse()
    connection, path = house.connect(), f"/again/{time.monotonic_ns()}"
    assert connection.send(head("GET", "/first")).answer().status == 200
    monkeypatch.setattr(pool.Upstream, "open", dial)
    connection.send(head("GET", path))
    assert soon(lambda: dialled)
    if ends == "client.closed":
        vanish(connection, "reset")
    else:
        assert connection.answer().status == 502
    assert house.last_end(path)["code"] == ends


def test_a_body_too_large_or_malformed_is_refused_before_or_while_it_comes(house: InsideHouse) -> None:
    at_limit = house.connect().send(head("POST", "/", "Content-Length: 1000", host="small.test") + b"x" * 1000)
    assert at_limit.answer().status == 200
    house.upstream.requests.clear()
    coded = head("POST", "/", "Transfer-Encoding: chunked", host="small.test")
    for sent, status, code in (
        (head("POST", "/", "Content-Length: 1001", host="small.test"), 413, "protocol.body-size"),
        (coded + chunks(b"x" * 600, b"x" * 401), 413, "protocol.body-size"),
        (coded + b"5\r\nhello\r\nzz\r\n", 400, "protocol.framing"),
    ):
        answer = house.connect().send(sent).answer()
        assert (answer.status, answer.json["code"], answer.value("connection")) == (status, code, "close")
        assert house.end(answer)["code"] == code
    assert house.upstream.requests == []


def test_a_bug_is_a_500_and_recorded_as_ours(house: InsideHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool.Upstream, "open", Mock(side_effect=ZeroDivisionError("secret words")))
    monkeypatch.setattr(pool.Upstream, "idle", lambda *_: None)
    answer = house.get()
    assert (answer.status, answer.json["code"]) == (500, "internal")
    assert b"secret" not in answer.body
    assert "ZeroDivisionError" in house.end(answer)["detail"]


def test_who_waits_too_long_for_a_place_is_turned_away(house: InsideHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_QUEUE_S", 0.1)
    house.upstream.answer = rude.silent_after(b"")
    house.connect().send(head("GET", "/holds", host="one.test"))
    assert soon(lambda: house.upstream.requests)
    answer = house.get(host="one.test")
    assert (answer.status, answer.json["code"], answer.value("retry-after")) == (503, "overload.upstream", "1")


def test_a_required_record_is_waited_for_and_the_body_that_came_meanwhile_is_kept(house: InsideHouse) -> None:
    connection = house.connect().send(head("POST", "/", f"Content-Length: {len(MIB)}", host="sealed.test") + MIB)
    answer = connection.answer()
    assert (answer.status, house.upstream.requests[0].body == MIB) == (200, True)
    assert house.end(answer)["bytes_in"] == len(MIB)


LENGTH = ("Content-Length: 10",)
CODING = ("Transfer-Encoding: chunked",)


@pytest.mark.parametrize("declared", [b"0123456789", None], ids=["declared", "gathered"])
@pytest.mark.parametrize("fields", [LENGTH, CODING], ids=["counted", "chunked"])
def test_a_signed_body_goes_through_and_the_signature_ends_here(
    house: InsideHouse, fields: tuple[str, ...], declared: bytes | None
) -> None:
    pieces = [b"01234", b"56789"] if fields is LENGTH else [b"5\r\n0123", b"4\r\n5\r\n56789\r\n0\r\n\r\n"]
    connection = house.connect().send(signed(b"0123456789", declare=declared, fields=fields))
    for piece in pieces:
        time.sleep(0.05)
        connection.send(piece)
    answer = connection.answer()
    assert answer.status == 200
    (request,) = house.upstream.requests
    whole = unchunked(request.body) if request.values(b"transfer-encoding") else request.body
    assert whole == b"0123456789"
    assert [name for name in (b"authorization", b"x-amz-date", b"x-amz-content-sha256") if request.values(name)] == []
    assert request.values(b"x-ztproxy-subject") == [b"arn:aws:iam::111122223333:user/ci"]
    assert house.end(answer)["bytes_in"] == 10


@pytest.mark.parametrize("fields", [LENGTH, CODING], ids=["counted", "chunked"])
def test_the_last_byte_of_a_body_that_was_not_signed_stays(house: InsideHouse, fields: tuple[str, ...]) -> None:
    connection = house.connect().send(signed(declare=b"0123456789", fields=fields, host="signed.test"))
    pieces = [b"01234", b"56780"] if fields is LENGTH else [b"5\r\n01234\r\n", b"5\r\n56780", b"\r\n", b"0\r\n\r\n"]
    for piece in pieces:
        time.sleep(0.05)
        connection.send(piece)
    answer = connection.answer()
    assert (answer.status, answer.value("x-amzn-errortype")) == (403, "InvalidSignatureException")
    assert house.end(answer)["code"] == "authn.sigv4-body"
    assert b"56780" not in house.rude.heard[0]


def test_after_such_a_refusal_the_next_request_is_served(house: InsideHouse) -> None:
    """Its bytes may have come together with the last of the refused body."""
    sent = signed(declare=b"0123456789", fields=LENGTH) + b"0123456780" + signed(method="GET")
    connection = house.connect().send(sent)
    assert connection.answer().status == 403
    assert connection.answer().status == 200


def test_a_body_that_was_signed_and_does_not_come_is_refused(house: InsideHouse) -> None:
    answer = house.connect().send(signed(declare=b"0123456789")).answer()
    assert (answer.status, house.end(answer)["code"]) == (403, "authn.sigv4-body")
    assert house.connect().send(signed(declare=b"")).answer().status == 200
    assert house.connect().send(signed()).answer().status == 200


def test_a_gathered_body_is_bounded_and_told_to_continue(house: InsideHouse) -> None:
    connection = house.connect().send(signed(b"0123456789", fields=(*LENGTH, "Expect: 100-continue")))
    assert connection.answer().status == 100
    assert connection.send(b"0123456789").answer().status == 200
    answer = house.connect().send(signed(b"0123456789", fields=LENGTH) + b"0123456780").answer()
    assert (answer.status, answer.value("x-amzn-errortype")) == (403, "InvalidSignatureException")
    large = signed(fields=(f"Content-Length: {2**20 + 1}",)) + b"x" * (2**20 + 1)
    answer = house.connect().send(large).answer()
    assert (answer.status, answer.value("connection")) == (413, "close")
    assert house.of(answer)[0]["code"] == "protocol.body-size"
