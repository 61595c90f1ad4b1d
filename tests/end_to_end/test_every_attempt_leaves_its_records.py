"""R44: one `access.decided` for each attempt, one `access.ended` for each grant, whatever the mixture and its end."""

from __future__ import annotations

import random
import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.fakes.proxy import Connection
from tests.fakes.signing import signature_of, signed
from tests.fakes.watch import NOBODY, WatchedHouse

THREADS, EACH = 4, 60


class Caller:
    """Does all kinds of things in an order of its own, and counts what each must leave behind."""

    def __init__(self, house: WatchedHouse, seed: int) -> None:
        self._house = house
        self._order = random.Random(seed)
        self.expected: Counter[str] = Counter()
        self.ids: list[str] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            for _ in range(EACH):
                self._order.choice(
                    (
                        self._allowed,
                        self._several,
                        self._denied,
                        self._forged,
                        self._malformed,
                        self._signed,
                        self._pipelined,
                    )
                )()
                if self._order.random() < 0.15:
                    self._order.choice((self._leaves, self._nobody, self._no_tls, self._half_a_head))()
        except BaseException as failure:
            self.failure = failure

    def _ask(self, raw: bytes, connection: Connection | None = None) -> None:
        own = connection is None
        connection = connection or self._house.connect()
        answer = connection.send(raw).answer()
        self.ids.append(answer.value("x-ztproxy-id") or "")
        if own:
            connection.close()

    def _allowed(self) -> None:
        self._ask(self._house.request("POST /orders", body=b"x" * 1000))
        self.expected.update(("decided allowed", "ended completed"))

    def _several(self) -> None:
        connection = self._house.connect()
        for _ in range(5):
            self._ask(self._house.request(), connection)
            self.expected.update(("decided allowed", "ended completed"))
        connection.close()

    def _pipelined(self) -> None:
        connection = self._house.connect().send(self._house.request() * 4)
        self.ids += [connection.answer().value("x-ztproxy-id") or "" for _ in range(4)]
        self.expected.update(("decided allowed", "ended completed") * 4)
        connection.close()

    def _denied(self) -> None:
        self._ask(self._house.request("DELETE /orders/1"))
        self.expected.update(("decided authz.denied-implicit",))

    def _forged(self) -> None:
        self._ask(self._house.request(token=self._house.tokens.token(forged=True)))
        self.expected.update(("decided authn.token-signature",))

    def _malformed(self) -> None:
        self._ask(self._house.request("GET /a/../b"))
        self.expected.update(("decided protocol.target",))

    def _signed(self) -> None:
        raw = signed("POST /orders", b"x" * 100)
        self._house.keep_secret(signature_of(raw))
        self._ask(raw)
        self.expected.update(("decided allowed", "ended completed"))

    def _leaves(self) -> None:
        """Asks, and leaves in the middle of its own request body."""
        request = self._house.request("POST /orders", "Content-Length: 100000")
        connection = self._house.connect().send(request + b"x" * 10)
        connection.close()
        self.expected.update(("decided allowed", "ended client.closed"))

    def _nobody(self) -> None:
        self._house.ask_on(self._house.dial(NOBODY), self._house.request())
        self.expected.update(("decided authn.certificate-missing",))

    def _no_tls(self) -> None:
        with self._house.raw() as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            plain.recv(100)
        self.expected.update(("failed protocol.tls",))

    def _half_a_head(self) -> None:
        """A head that never became one asks for nothing."""
        self._house.connect().send(b"GET /orders HTTP/1.1\r\nHost: loc").close()


@pytest.mark.parametrize("seed", [1])
def test_the_counts_of_a_mixed_run_match(tmp_path: Path, seed: int) -> None:
    house = WatchedHouse(tmp_path)
    try:
        house.start()
        callers = [Caller(house, seed * 100 + number) for number in range(THREADS)]
        threads = [threading.Thread(target=caller.run) for caller in callers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(40)
        assert [caller.failure for caller in callers] == [None] * THREADS
        assert house.stop() == 0
        expected = sum((caller.expected for caller in callers), Counter[str]())
        found = Counter(
            f"{record['event'].split('.')[1]} {record['code']}" for record in house.records() if "code" in record
        )
        assert found == expected
        decided = [record["id"] for record in house.records("access.decided")]
        ended = [record["id"] for record in house.records("access.ended")]
        assert len(set(decided)) == len(decided)
        assert sorted(ended) == sorted(
            each["id"] for each in house.records("access.decided") if each["code"] == "allowed"
        )
        assert set(decided) >= {each for caller in callers for each in caller.ids}
        arrived = {request.values(b"x-ztproxy-request-id")[0].decode() for request in house.upstream.requests}
        assert arrived == {each["id"] for each in house.records("access.ended") if each["code"] == "completed"}
        assert house.leaks() == []
    finally:
        house.close()
