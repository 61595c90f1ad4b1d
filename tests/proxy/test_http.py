"""A client connection: heads read and refused, requests one after another, deadlines, and what goes upstream."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fakes.proxy import Connection
from tests.fakes.upstream import respond
from tests.proxy.inside import LOOPS, InsideHouse
from tests.proxy.rude import RudeServer
from tests.proxy.wires import chunks, ends, head, narrow, padded, soon
from ztproxy.proxy import http, listener


def lines(house: InsideHouse) -> list[str]:
    """The request lines that reached the upstream."""
    return [request.line.decode() for request in house.upstream.requests]


def test_one_request_after_another_on_one_connection_and_one_upstream_connection(house: InsideHouse) -> None:
    connection = house.connect()
    for number in range(5):
        answer = connection.send(head("GET", f"/{number}")).answer()
        assert (answer.status, answer.json["line"]) == (200, f"GET /{number} HTTP/1.1")
        assert answer.value("connection") is None
        decided, ended = house.of(answer)
        assert (decided["path"], ended and ended["code"]) == (f"/{number}", "completed")
    assert len({request.connection for request in house.upstream.requests}) == 1


def test_pipelined_requests_are_answered_in_order(house: InsideHouse) -> None:
    connection = house.connect()
    connection.send(b"".join(head("GET", f"/{number}") for number in range(50)))
    answers = [connection.answer() for _ in range(50)]
    assert [answer.json["line"] for answer in answers] == [f"GET /{number} HTTP/1.1" for number in range(50)]
    assert len({answer.value("x-ztproxy-id") for answer in answers}) == 50


def test_pipelined_requests_with_bodies_keep_their_bodies(house: InsideHouse) -> None:
    connection = house.connect()
    connection.send(
        head("POST", "/a", "Content-Length: 3") + b"one"
        + head("POST", "/b", "Transfer-Encoding: chunked") + chunks(b"tw", b"o")
        + head("GET", "/c")
        + head("PUT", "/d", "Content-Length: 0")
        + head("POST", "/e", "Content-Length: 5") + b"th"
    )  # fmt: skip
    assert [connection.answer().json["body"] for _ in range(4)] == ["one", "3\r\ntwo\r\n0\r\n\r\n", "", ""]
    assert connection.send(b"ree").answer().json["body"] == "three"


def test_a_bad_request_among_pipelined_ones_ends_the_connection_there(house: InsideHouse) -> None:
    connection = house.connect()
    connection.send(head("GET", "/1") + head("GET", "/../2") + head("GET", "/3"))
    assert connection.answer().status == 200
    refused = connection.answer()
    assert (refused.status, refused.value("connection"), refused.json["code"]) == (400, "close", "protocol.target")
    assert ends(connection)
    assert house.of(refused)[0]["code"] == "protocol.target"
    assert lines(house) == ["GET /1 HTTP/1.1"]


def test_a_head_may_come_byte_by_byte_and_behind_an_empty_line(house: InsideHouse) -> None:
    connection = house.connect()
    for byte in b"\r\n" + head("GET", "/slowly"):
        connection.send(bytes((byte,)))
    assert connection.answer().json["line"] == "GET /slowly HTTP/1.1"


def test_a_client_that_asks_for_the_end_gets_it(house: InsideHouse) -> None:
    connection = house.connect()
    answer = connection.send(head("GET", "/last", "Connection: close") + head("GET", "/never")).answer()
    assert (answer.status, answer.value("connection")) == (200, "close")
    assert ends(connection)
    assert lines(house) == ["GET /last HTTP/1.1"]


def test_http_1_0_is_answered_and_closed_also_when_its_fields_were_seen_before(house: InsideHouse) -> None:
    connection = house.connect()
    assert connection.send(head("GET", "/1")).answer().value("connection") is None
    answer = connection.send(head("GET", "/2", version="1.0")).answer()
    assert (answer.status, answer.value("connection")) == (200, "close")
    assert ends(connection)


def test_repeated_fields_do_not_repeat_the_judgement_of_the_line(house: InsideHouse) -> None:
    """What is known of the fields says nothing of method and target."""
    connection, token = house.connect(), house.tokens.token()
    fields = f" HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    expected = {
        b"GET /orders/1": 200,
        b"DELETE /orders/1": 403,
        b"HEAD /orders/1": 200,
        b"GET /a/admin/b": 403,
        b"POST /orders": 200,
        b"GET /orders/2?x=/admin/": 200,
        b"GET http://localhost/orders/3": 200,
    }
    for line, status in expected.items():
        answer = connection.send(line + fields).answer(head_only=line.startswith(b"HEAD"))
        assert (line, answer.status) == (line, status)
        decided = house.of(answer)[0]
        assert decided["method"] == line.partition(b" ")[0].decode()
        assert decided["identity"]["subject"] == "bob"
    for line, status in {b"TRACE /": 501, b"get /": 501, b"GET /%2e%2e/x": 400, b"GET http://other.test/": 400}.items():
        again = house.connect()
        again.send(b"GET /orders/1" + fields)
        assert again.answer().status == 200
        assert (line, again.send(line + fields).answer().status) == (line, status)
        assert ends(again)


def test_every_request_is_judged_by_its_own_fields(house: InsideHouse) -> None:
    connection = house.connect()
    bob, eve = house.tokens.token(), house.tokens.token(sub="eve", groups=["ops"])
    for token, status, subject in [(bob, 200, "bob"), (eve, 403, "eve"), ("", 401, None), (bob, 200, "bob")]:
        answer = connection.send(house.request(token=token)).answer()
        assert answer.status == status
        identity = house.of(answer)[0]["identity"]
        assert (identity and identity["subject"]) == subject
    assert [request.values(b"x-ztproxy-subject") for request in house.upstream.requests] == [[b"bob"]] * 2
    for agent, status in [("good/1", 200), ("bad/1", 403), ("good/2", 200)]:
        answer = connection.send(
            head("GET", "/", f"User-Agent: {agent}", "Referer: https://a/", host="agent.test")
        ).answer()
        assert answer.status == status
    assert connection.send(head("GET", "/", host="agent.test")).answer().status == 403


REFUSED: dict[str, tuple[bytes, int, str]] = {
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400, "protocol.host"),
    "two hosts": (head("GET", "/", "Host: b"), 400, "protocol.host"),
    "other host in the target": (head("GET", "http://small.test/"), 400, "protocol.host"),
    "dot segment": (head("GET", "/a/%2e%2e/b"), 400, "protocol.target"),
    "fragment": (head("GET", "/#a"), 400, "protocol.target"),
    "garbage": (b"\x16\x03\x01\x00\r\n\r\n", 400, "protocol.head"),
    "two lengths": (head("POST", "/", "Content-Length: 1", "Content-Length: 1"), 400, "protocol.framing"),
    "length, coding": (head("POST", "/", "Content-Length: 1", "Transfer-Encoding: chunked"), 400, "protocol.framing"),
    "hop": (head("GET", "/", "Connection: X-Ztproxy-Subject"), 400, "protocol.hop"),
    "expectation": (head("POST", "/", "Expect: gold"), 417, "protocol.expect"),
    "connect": (head("CONNECT", "open.test:443"), 501, "protocol.method"),
    "long field": (head("GET", "/", "A: " + "x" * (16 * 1024 + 1)), 431, "protocol.head-size"),
    "many fields": (head("GET", "/", *["A: b"] * 100), 431, "protocol.head-size"),
    "long head": (padded(32 * 1024 + 5), 431, "protocol.head-size"),
    "endless head": (padded(40 * 1024)[:-2], 431, "protocol.head-size"),
    "long target": (head("GET", "/" + "x" * 8192), 414, "protocol.target-size"),
    "endless target": (b"GET /" + b"x" * 9000, 414, "protocol.target-size"),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "status", "code"), REFUSED.values(), ids=list(REFUSED))
def test_a_head_that_breaks_the_rules_is_answered_recorded_and_ends_the_connection(
    house: InsideHouse, sent: bytes, status: int, code: str
) -> None:
    connection = house.connect()
    answer = connection.send(sent).answer()
    assert (answer.status, answer.json["code"], answer.value("connection")) == (status, code, "close")
    assert ends(connection)
    assert house.of(answer)[0]["code"] == code
    assert house.upstream.requests == []


@pytest.mark.parametrize(
    "sent",
    [
        head("GET", "/" + "x" * 8191),
        padded(32 * 1024),
        head("GET", "/", "A: " + "x" * 16 * 1024),
        head("GET", "/", *["A: b"] * 99),
    ],
    ids=["target", "head", "field", "fields"],
)
def test_at_the_limit_it_is_served(house: InsideHouse, sent: bytes) -> None:
    assert house.connect().send(sent).answer().status == 200


def test_the_body_of_a_request_refused_by_its_head_is_never_taken_for_a_request(house: InsideHouse) -> None:
    smuggled = head("GET", "/smuggled")
    connection = house.connect()
    connection.send(head("POST", "/", "Authorization: Basic eDp5", f"Content-Length: {len(smuggled)}") + smuggled)
    answer = connection.answer()
    assert (answer.status, answer.value("connection")) == (401, "close")
    assert house.of(answer)[0]["code"] == "authn.missing"
    assert ends(connection)
    assert house.upstream.requests == []


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_refusal_by_the_head_alone_leaves_no_doubt_where_it_ends(house: InsideHouse, version: str) -> None:
    connection = house.connect()
    connection.send(head("GET", "/", "Authorization: Basic eDp5", "Connection: close", version=version))
    answer = connection.answer()
    assert (answer.status, answer.value("connection")) == (401, "close")
    assert ends(connection)
    asked = house.connect()
    answer = asked.send(head("HEAD", "/", "Authorization: Basic eDp5")).answer(head_only=True)
    assert answer.status == 401
    assert ends(asked) or asked.send(head("GET", "/next")).answer().status == 200


def test_a_refusal_keeps_the_connection_where_nothing_is_left_to_read(house: InsideHouse) -> None:
    connection = house.connect()
    for line in ("GET /orders/1", "DELETE /orders/1"):
        answer = connection.send(house.request(line, token="" if line.startswith("GET") else None)).answer()
        assert (answer.status in (401, 403), answer.value("connection")) == (True, None)
    assert connection.send(house.request()).answer().status == 200


@pytest.mark.parametrize("framing", [("Content-Length: 5", b"hello"), ("Transfer-Encoding: chunked", chunks(b"hello"))])
def test_a_refusal_ends_the_connection_where_a_body_follows(house: InsideHouse, framing: tuple[str, bytes]) -> None:
    connection = house.connect()
    answer = connection.send(house.request("DELETE /orders/1", framing[0]) + framing[1] + house.request()).answer()
    assert (answer.status, answer.value("connection")) == (403, "close")
    assert ends(connection)
    assert house.upstream.requests == []


def test_a_refusal_speaks_the_callers_language(house: InsideHouse) -> None:
    page = house.ask("DELETE /orders/1", "Accept: text/html")
    assert (page.status, page.value("content-type")) == (403, "text/html; charset=utf-8")
    signed = house.ask("GET /x", "Authorization: AWS4-HMAC-SHA256 Credential=x", token="")
    assert (signed.status, signed.value("x-amzn-errortype")) == (400, "IncompleteSignature")
    alone = house.ask("HEAD /admin/x/admin/y")
    assert (alone.status, alone.body) == (403, b"")
    assert int(alone.value("content-length") or 0) > 0


def test_a_head_that_does_not_come_in_time_is_told_and_recorded(house: InsideHouse) -> None:
    connection = house.connect(listener="hasty")
    started = time.monotonic()
    answer = connection.send(b"GET / HTTP/1.1\r\nHost: open").answer()
    assert 0.3 < time.monotonic() - started < 2.5
    assert (answer.status, answer.json["code"]) == (408, "protocol.deadline")
    assert ends(connection)
    assert house.of(answer)[0]["code"] == "protocol.deadline"


def test_the_head_deadline_counts_from_its_first_byte_on_a_kept_connection(house: InsideHouse) -> None:
    connection = house.connect(listener="hasty")
    assert connection.send(head("GET", "/")).answer().status == 200
    assert connection.send(b"GET /").answer().status == 408
    assert ends(connection)


def test_a_client_that_says_nothing_is_closed_without_a_word(house: InsideHouse) -> None:
    before = len(house.records())
    assert ends(house.connect(listener="hasty"))
    assert len(house.records()) == before


def test_a_connection_that_rests_too_long_is_closed_without_a_word(house: InsideHouse) -> None:
    connection = house.connect(listener="hasty")
    assert connection.send(head("GET", "/")).answer().status == 200
    before, started = len(house.records()), time.monotonic()
    assert ends(connection)
    assert 0.3 < time.monotonic() - started < 2.5
    assert len(house.records()) == before


def test_who_ignores_the_end_is_cut_off(house: InsideHouse) -> None:
    """A peer that never closes its side must not hold a place for long."""
    connection = house.connect()
    connection.send(head("GET", "/..")).answer()
    assert soon(lambda: not connections_from(house, connection), seconds=4)


def connections_from(house: InsideHouse, connection: Connection) -> int:
    """How many connections of the proxy go to this client's port."""
    here, there = (f":{port:04X}" for port in (house.ports["edge"], connection.socket.getsockname()[1]))
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(each[1].endswith(here) and each[2].endswith(there) and each[3] in ("01", "08") for each in table)


def test_what_the_upstream_is_told_comes_from_facts_alone(house: InsideHouse) -> None:
    claims = [
        "X-Forwarded-For: 10.0.0.1", "x_forwarded_for: 10.0.0.2", "Forwarded: for=10.0.0.3", "X-Ztproxy-Subject: root",
        "X-Ztproxy.Groups: [\"admin\"]", "Connection: X-Hop", "X-Hop: 1", "TE: trailers", "X-Kept: yes",
    ]  # fmt: skip
    assert house.ask("GET /orders/1?q=1", *claims).status == 200
    (request,) = house.upstream.requests
    assert request.line == b"GET /orders/1?q=1 HTTP/1.1"
    assert request.values(b"host") == [b"localhost"]
    assert request.values(b"x-forwarded-for") == [b"127.0.0.1"]
    assert request.values(b"x-forwarded-proto") == [b"https"]
    assert request.values(b"x-forwarded-host") == [b"localhost"]
    assert request.values(b"forwarded") == [b'for=127.0.0.1;host="localhost";proto=https']
    assert request.values(b"x-ztproxy-subject") == [b"bob"]
    assert request.values(b"x-ztproxy-groups") == [b'["dev"]']
    assert request.values(b"x-kept") == [b"yes"]
    gone = (b"authorization", b"x_forwarded_for", b"x-ztproxy.groups", b"x-hop", b"te", b"connection")
    assert [name for name in gone if request.values(name)] == []
    decided = house.records("access.decided")[-1]
    assert request.values(b"x-ztproxy-request-id") == [decided["id"].encode()]


def test_a_port_in_the_host_is_passed_on_and_never_part_of_the_route(house: InsideHouse) -> None:
    assert house.get("/", host="OPEN.test.:8443").status == 200
    assert house.upstream.requests[0].values(b"host") == [b"OPEN.test.:8443"]
    assert house.get("/", host="nowhere.test").status == 404


def slow_reader(house: InsideHouse) -> Connection:
    """A client with a small window, far away."""
    narrow(lambda found: found.getsockname()[1] == house.ports["edge"])
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    plain.settimeout(10)
    plain.connect(("127.0.0.1", house.ports["edge"]))
    connection = Connection(house.context(house.bob).wrap_socket(plain, server_hostname="localhost"))
    house.connections.append(connection)
    return connection


@pytest.mark.parametrize("rest", [120_000, 170_000, 220_000])
def test_a_client_that_does_not_read_is_not_buffered_for(house: InsideHouse, rest: int) -> None:
    """Also not when its slowness began at the end of the answer before: what it leaves, the upstream keeps (R03)."""
    first, second = 2**20 + rest, 24 * 2**20
    sent = [0]

    def flood(self: RudeServer, connection: socket.socket, heard: bytearray) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        self.until(b"GET /1 ", connection, heard)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % first + b"x" * first)
        self.until(b"GET /2 ", connection, heard)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % second)
        while sent[0] < second:
            sent[0] += connection.send(b"x" * 65536)

    house.rude.speak = flood
    connection = slow_reader(house)
    connection.send(head("GET", "/1", host="rude.test") + head("GET", "/2", host="rude.test"))
    while not sent[0]:
        connection.socket.recv(4096)
    assert not soon(lambda: sent[0] >= second, seconds=0.2), "all was taken for a client that reads none of it"


def test_a_client_that_reads_again_gets_all_of_it(house: InsideHouse) -> None:
    house.upstream.answer = respond(b"y" * 8 * 2**20)
    connection = slow_reader(house)
    connection.send(head("GET", "/1") + head("GET", "/2"))
    time.sleep(0.3)
    assert [len(connection.answer().body) for _ in range(2)] == [8 * 2**20] * 2


def test_a_slow_client_gets_the_whole_of_its_last_answer(house: InsideHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was buffered of it may take as long as five seconds; here every such time is divided by five."""
    for module, name in ((http, "_LINGER_S"), (http, "_CLOSE_S"), (listener, "_SHUTDOWN_S")):
        monkeypatch.setattr(module, name, getattr(module, name) / 5)
    house.upstream.answer = lambda up, at, asked: respond(b"y" * int(asked.line.split()[1][1:]))(up, at, asked)
    sizes = (540_000, 580_000, 620_000, 660_000)
    over = {slow_reader(house).send(head("GET", f"/{size}", "Connection: close")): -size for size in sizes}
    while reading := [each for each in over if each.socket.fileno() >= 0]:
        for each in reading:
            data = each.socket.recv(16384)
            over[each] += len(data)
            if not data:
                each.close()
        time.sleep(0.025)
    assert all(0 < head_bytes < 500 for head_bytes in over.values())


@pytest.fixture(params=LOOPS)
def forgetful(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InsideHouse]:
    """A proxy that remembers a single certificate."""
    monkeypatch.setattr("ztproxy.proxy.tls._MOST_REMEMBERED", 1)
    house = InsideHouse(tmp_path, LOOPS[request.param])
    yield house.start()
    house.close()


def test_a_resumed_session_nobody_vouches_for_is_recorded_and_cut(forgetful: InsideHouse) -> None:
    house = forgetful
    context = house.context(house.bob)
    with context.wrap_socket(house.raw(), server_hostname="localhost") as first:
        first.sendall(head("GET", "/"))
        first.recv(65536)
        session = first.session
    house.connect(house.staff.issue("eve", uris=("spiffe://test.example/eve",))).send(head("GET", "/")).answer()
    with context.wrap_socket(house.raw(), server_hostname="localhost", session=session) as again:
        again.settimeout(3)
        with suppress(ConnectionError, ssl.SSLError):
            again.sendall(head("GET", "/"))
            assert again.recv(65536) == b""
        assert again.session_reused
    (failed,) = house.wait_records("connection.failed")
    assert (failed["code"], failed["detail"], failed["listener"]) == (
        "authn.certificate-invalid",
        "no chain remembered",
        "edge",
    )
    assert len(house.records("access.decided")) == 2
