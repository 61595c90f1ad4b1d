"""kill -9 under load: whatever an upstream saw or a client was told stands in the record, and the chain goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.fakes.watch import WatchedHouse


def verified(house: WatchedHouse) -> bool:
    command = [sys.executable, "-m", "ztproxy", "audit", "verify", str(house.spool)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def test_what_left_the_process_is_on_record_after_a_kill(tmp_path: Path) -> None:
    house = WatchedHouse(tmp_path)
    told: list[str] = []

    def load() -> None:
        try:
            connection = house.connect()
            requests = [
                house.request("GET /orders/1"),
                house.request("POST /orders", body=b"x"),
                house.request("DELETE /o"),
            ]
            while True:
                for request in requests:
                    answer = connection.send(request).answer()
                    told.append(answer.value("x-ztproxy-id") or "")
        except (OSError, EOFError):
            return
        finally:
            connection.close()

    try:
        for round_ in range(2):
            house.start()
            assert house.process is not None
            threads = [threading.Thread(target=load) for _ in range(3)]
            for thread in threads:
                thread.start()
            until = time.monotonic() + 10
            while len(told) < 300 * (round_ + 1) and time.monotonic() < until:
                time.sleep(0.005)
            os.kill(house.process.pid, signal.SIGKILL)
            house.process.wait()
            assert house.process.stdout is not None
            house.process.stdout.close()
            for thread in threads:
                thread.join(10)
        house.start()
        arrived = [request.values(b"x-ztproxy-request-id")[0].decode() for request in house.upstream.requests]
        decided = {record["id"]: record["code"] for record in house.records("access.decided")}
        assert len(told) >= 600
        assert len(arrived) == len(set(arrived)) > 300
        assert [each for each in arrived if decided.get(each) != "allowed"] == []
        assert [each for each in told if each not in decided] == []
        assert len(house.records("process.started")) == 3
        assert verified(house)
        assert house.ask().status == 200
        assert house.stop() == 0
        assert verified(house)
        assert house.leaks() == []
    finally:
        house.close()
