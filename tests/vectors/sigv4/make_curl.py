"""Writes `curl.json`: requests as curl 7.88 signs and sends them, caught on a loopback socket.

Run where that curl is installed: `python tests/vectors/sigv4/make_curl.py`. Later versions sign as AWS prescribes, so
the script refuses them. The date is fixed with `-H X-Amz-Date`, which this curl then sends twice; the second line is
dropped.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ACCESS_KEY, SECRET_KEY, REGION, SERVICE = (
    "AKIDEXAMPLE3",
    "curl/vectors+secretKEYexample012345678ab",
    "eu-west-1",
    "execute-api",
)
HOST, TIME = "api.example.com", "20260301T120000Z"
BODY = "BODY"

# name, target, arguments, body, accepted
CASES: tuple[tuple[str, str, tuple[str, ...], str, bool], ...] = (
    ("plain", "/orders/42", (), "", True),
    ("unsorted-query", "/orders?z=1&a=2", (), "", True),
    ("flag-without-equal-sign", "/orders?flag", (), "", True),
    ("unsorted-flags-and-escapes", "/orders?z=%7Ex&flag&a=1+2", (), "", True),
    ("escaped-path", "/a%20b/c", (), "", True),
    ("reserved-in-path", "/a$b/c", (), "", True),
    ("custom-fields", "/orders", ("-H", "X-Amz-Meta: a b", "-H", "Accept: text/plain"), "", True),
    ("body-with-signed-type", "/orders?b=1&a=2", ("-H", "Content-Type: application/json", "-d", BODY), BODY, True),
    ("escaped-percent-sign", "/a%2520b", (), "", False),
    ("body-with-default-type", "/orders", ("-d", BODY), BODY, False),
    ("upload", "/orders", ("-T", "{file}"), BODY, False),
)


def caught(target: str, arguments: tuple[str, ...], body: str) -> str:
    """The request curl sends, head and body, with LF line ends."""
    with tempfile.NamedTemporaryFile() as file, socket.create_server(("127.0.0.1", 0)) as server:
        file.write(body.encode())
        file.flush()
        server.settimeout(10)
        command = [
            *("curl", "--silent", "--show-error", "--max-time", "10", "--noproxy", "*", "--globoff", "--http1.1"),
            *("--connect-to", f"{HOST}:80:127.0.0.1:{server.getsockname()[1]}"),
            *("--aws-sigv4", f"aws:amz:{REGION}:{SERVICE}", "--user", f"{ACCESS_KEY}:{SECRET_KEY}"),
            *(
                "-H",
                f"X-Amz-Date: {TIME}",
                *(each.replace("{file}", file.name) for each in arguments),
                f"http://{HOST}{target}",
            ),
        ]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL):
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as stream:
                head = list(iter(stream.readline, b"\r\n"))
                if b"Expect: 100-continue\r\n" in head:
                    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                received = stream.read(len(body))
                connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
    assert received.decode() == body
    lines = [line.decode().rstrip("\r\n") for line in head]
    date = f"X-Amz-Date: {TIME}"
    lines = [line for number, line in enumerate(lines) if line != date or number == lines.index(date)]
    return "\n".join(lines) + "\n\n" + body


def case(name: str, target: str, arguments: tuple[str, ...], body: str, accepted: bool) -> dict[str, Any]:
    """One case in the layout of the corpus, and whether it is to be accepted."""
    return {
        "id": f"ztproxy/curl-7.88/{name}",
        "form": "header",
        "access_key": ACCESS_KEY,
        "secret_key": SECRET_KEY,
        "session_token": None,
        "region": REGION,
        "service": SERVICE,
        "time": TIME,
        "signed_request": caught(target, arguments, body),
        "accepted": accepted,
    }


if __name__ == "__main__":
    version = subprocess.run(["curl", "--version"], capture_output=True, check=True, text=True).stdout.split()[1]
    if not version.startswith("7.88."):
        sys.exit(f"this needs curl 7.88 and found {version}")
    document = {"format": 1, "curl_7_88": [case(*each) for each in CASES]}
    Path(__file__).with_name("curl.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
