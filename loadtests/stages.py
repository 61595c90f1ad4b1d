#!/usr/bin/env python3
"""What each stage of one request costs in CPU, in microseconds, beside the yardstick of the same run.

usage: stages.py [--repeat N]

Real parts on real files in a temporary folder: certificate and ES256 token, the measured policy of `harness.py`, the
sealed spool. The last column scales to a machine that hashes 1 KiB with SHA-256 in 1.35 us, so that runs can be
compared; the lowest of the repeats counts, because everything else a machine does only adds.
"""

import argparse
import asyncio
import hashlib
import json
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import harness
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ztproxy.app import App, plan
from ztproxy.audit.recorder import Recorder
from ztproxy.authn.chain import AuthenticationChain
from ztproxy.authz.context import network_facts
from ztproxy.authz.evaluate import evaluate
from ztproxy.config import load
from ztproxy.dev.ca import Pki, ensure_pki
from ztproxy.dev.oidc import OidcIssuer
from ztproxy.gate import Gate, Grant
from ztproxy.proxy.fields import FieldBlock
from ztproxy.routing import RouteTable
from ztproxy.types import Ask, NetworkContext, PresentedCertificate
from ztproxy.wire.http import forward_fields, read_head, read_line
from ztproxy.wire.response import read_response
from ztproxy.wire.target import canonical_target

_YARDSTICK_US = 1.35
_ISSUER = "https://issuer.bench.test"
_ANSWER = b"HTTP/1.1 200 OK\r\nServer: up\r\nContent-Type: application/json\r\nContent-Length: 1024\r\nETag: %d\r\n\r\n"


def _prepare(folder: Path) -> tuple[Path, Pki, bytes]:
    """The measured configuration, with a PKI and a token of its own."""
    pki = ensure_pki(folder / "pki", ["alice"], datetime.now(UTC))
    issuer = OidcIssuer(_ISSUER)
    files = folder / "bench"
    files.mkdir()
    for name, source in (
        ("server-ec.crt", pki.edge.certificate),
        ("server-ec.key", pki.edge.key),
        ("ca.crt", pki.staff_ca),
    ):
        (files / name).write_bytes(source.read_bytes())
    (files / "server-ec.key").chmod(0o600)
    (files / "jwks.json").write_text(json.dumps(issuer.jwks))
    bench = {"iss": _ISSUER, "aud": "bench", "akid": "AKIDBENCH0001", "secret": "x" * 40, "region": "eu-west-1"}
    (files / "bench.json").write_text(json.dumps({**bench, "service": "execute-api"}))
    harness.main(folder, files, 9, "buffered")
    claims = {"groups": ["eng", "oncall"], "email": "alice@bench.test", "email_verified": True}
    token = issuer.mint("ada", audience="bench", algorithm="ES256", claims=claims)
    fields = b"Host: localhost\r\nUser-Agent: bench/1.0\r\nAccept: application/json\r\nAuthorization: Bearer %b\r\n\r\n"
    return (
        folder / "ztproxy-buffered" / "zt.yaml",
        pki,
        b"GET /api/items/42?limit=10 HTTP/1.1\r\n" + fields % token.encode(),
    )


async def _measure(folder: Path, repeat: int) -> None:
    file, pki, raw = _prepare(folder)
    planned = plan(load(file))
    recorder = Recorder(folder / "spool")
    recorder.open()
    tasks: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()
    chain = AuthenticationChain(await App(planned)._authenticators(lambda one: tasks.append(loop.create_task(one))))
    gate = Gate(
        routes=RouteTable(planned.routes), chain=chain, policies=planned.policies, recorder=recorder, generation=1
    )
    leaf = x509.load_pem_x509_certificate(pki.people["alice"].certificate.read_bytes())
    certificate = PresentedCertificate(
        der=leaf.public_bytes(Encoding.DER), authority="bench", chain_expires_at=leaf.not_valid_after_utc
    )
    facts = network_facts(peer="127.0.0.1", vpce_id=None, vpc_endpoints={}, secure=True)
    network = NetworkContext(listener="edge", peer="127.0.0.1", peer_port=1, facts=facts)
    line_end = raw.index(b"\r\n") + 2
    head = read_head(raw)
    block = FieldBlock(raw[line_end:], head, certificate)

    def admit(evidence_block: FieldBlock = block) -> Grant:
        target = canonical_target(head.raw_target)
        ask = Ask("execute-api:Invoke", block.host, target.path, head.method, head.method + target.path, block.facts)
        admission = gate.admit(network, evidence_block.evidence("GET", b"/", None), ask)
        try:
            admission.send(None)
        except StopIteration as done:
            grant: Grant = done.value
            return grant
        raise AssertionError("the hot path waited")

    grant = admit()
    numbers = iter(range(10**9))
    stages: dict[str, Callable[[], object]] = {
        "sha256 of 1 KiB (yardstick)": lambda data=b"x" * 1024: hashlib.sha256(data).digest(),
        "request head, read whole": lambda: read_head(raw),
        "request line, fields repeat": lambda: read_line(raw[:line_end]),
        "target": lambda: canonical_target(head.raw_target),
        "fields forwarded": lambda: forward_fields(head),
        "gate, same caller again": admit,
        "gate, new evidence object": lambda: admit(FieldBlock(raw[line_end:], head, certificate)),
        "decision": lambda: evaluate(planned.policies, grant.request),
        "record of the end, sealed": lambda: gate.ended(grant, "completed", 200, ""),
        "answer head, new": lambda: read_response(_ANSWER % next(numbers), "GET"),
    }
    yardstick = 0.0
    print(f"{'stage':<32}{'us':>8}{'scaled':>8}")
    for name, stage in stages.items():
        lowest = float("inf")
        for _ in range(repeat):
            started = perf_counter()
            for _ in range(200):
                stage()
            lowest = min(lowest, (perf_counter() - started) / 200 * 1e6)
            recorder.flush()
        yardstick = yardstick or lowest
        print(f"{name:<32}{lowest:>8.2f}{lowest / yardstick * _YARDSTICK_US:>8.2f}")
    for task in tasks:
        task.cancel()
    await asyncio.sleep(0)
    recorder.close()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=50)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_measure(Path(folder), arguments.repeat))


if __name__ == "__main__":
    main()
