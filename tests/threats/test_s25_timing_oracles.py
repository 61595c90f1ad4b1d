"""S25: the work done for a refused signature tells nothing. Counted, not timed: HMACs keyed, copied and compared."""

from __future__ import annotations

import hmac
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ztproxy.authn.sigv4 import AccessKey, SigV4Authenticator
from ztproxy.errors import Unauthenticated
from ztproxy.types import Evidence, NetworkContext, Secret, SignedRequest
from ztproxy.wire import sigv4 as wire

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NETWORK = NetworkContext(listener="edge", peer="192.0.2.1", peer_port=40000)


class Counted:
    """Stands where `wire.sigv4` looks for `hmac`, and counts what it is asked for."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def digest(self, key: bytes, message: bytes, digest: str) -> bytes:
        self.calls["digest"] += 1
        return hmac.digest(key, message, digest)

    def new(self, key: bytes, *, digestmod: str) -> CountedMac:
        self.calls["new"] += 1
        return CountedMac(self.calls, hmac.new(key, digestmod=digestmod))

    def compare_digest(self, one: bytes, other: bytes) -> bool:
        self.calls["compare"] += 1
        return hmac.compare_digest(one, other)


class CountedMac:
    """A keyed HMAC whose copies and input are counted."""

    def __init__(self, calls: Counter[str], mac: hmac.HMAC) -> None:
        self._calls = calls
        self._mac = mac

    def copy(self) -> CountedMac:
        self._calls["copy"] += 1
        return CountedMac(self._calls, self._mac.copy())

    def update(self, message: bytes) -> None:
        self._calls["bytes"] += len(message)
        self._mac.update(message)

    def hexdigest(self) -> str:
        return self._mac.hexdigest()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted = Counted()
    monkeypatch.setattr(wire, "hmac", counted)
    return counted


def authenticator() -> SigV4Authenticator:
    keys = [
        AccessKey(
            access_key_id=f"AKIDEXAMPLE{number}",
            secret=Secret(b"secret %d" % number),
            user=f"ci{number}",
            arn=f"arn:aws:iam::111122223333:user/ci{number}",
            account="111122223333",
        )
        for number in range(3)
    ]
    return SigV4Authenticator(keys, frozenset({"eu-west-1"}), frozenset({"execute-api", "sts"}))


def request(access_key_id: str, region: str = "eu-west-1", service: str = "execute-api") -> SignedRequest:
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={access_key_id}/20260301/{region}/{service}/aws4_request,"
        f" SignedHeaders=host;x-amz-date, Signature={'0' * 64}"
    )
    headers = ((b"Host", b"h"), (b"X-Amz-Date", b"20260301T120000Z"), (b"Authorization", authorization.encode()))
    return SignedRequest(method="PUT", raw_target=b"/a/./b?z&a", raw_headers=headers, body_sha256="ab" * 32)


def work(counted: Counted, verifier: SigV4Authenticator, signed: SignedRequest) -> tuple[Counter[str], str]:
    """What one refusal costs, and its code."""
    before = counted.calls.copy()
    step = verifier.identify(Evidence(signed=signed), NETWORK, NOW)
    with pytest.raises(Unauthenticated) as refused:
        step.send(None)
    return counted.calls - before, refused.value.code


def test_unknown_key_id_costs_what_a_wrong_signature_costs(counted: Counted) -> None:
    verifier = authenticator()
    warm, code = work(counted, verifier, request("AKIDEXAMPLE0"))
    assert code == "authn.sigv4-mismatch"
    assert warm["digest"] == 4 * (3 + 1), "all keys of the scope and the stand-in are derived at once"
    known, code = work(counted, verifier, request("AKIDEXAMPLE1"))
    assert code == "authn.sigv4-mismatch"
    unknown, code = work(counted, verifier, request("AKIDEXAMPLE9"))
    assert code == "authn.sigv4-key"
    assert unknown == known
    assert known["compare"] == known["copy"] >= 1
    assert known["digest"] == 0


def test_first_request_of_a_scope_costs_the_same_whoever_sends_it(counted: Counted) -> None:
    known, _ = work(counted, authenticator(), request("AKIDEXAMPLE0"))
    unknown, _ = work(counted, authenticator(), request("AKIDEXAMPLE9"))
    assert unknown == known


def test_sts_in_a_region_of_the_callers_choice_costs_the_same_every_time(counted: Counted) -> None:
    verifier = authenticator()
    costs = [
        work(counted, verifier, request(access_key_id, "ap-south-1", "sts"))[0]
        for access_key_id in ("AKIDEXAMPLE0", "AKIDEXAMPLE9", "AKIDEXAMPLE0", "AKIDEXAMPLE9", "")
    ]
    assert all(cost == costs[0] for cost in costs)
    assert costs[0]["digest"] == 4


def test_every_comparison_is_the_constant_time_one(counted: Counted) -> None:
    verifier = authenticator()
    for signature in (b"0" * 64, b"", b"\xff", b"0" * 63):
        signed = request("AKIDEXAMPLE0")
        headers = tuple((name, value.replace(b"0" * 64, signature)) for name, value in signed.raw_headers)
        cost, _ = work(counted, verifier, replace(signed, raw_headers=headers))
        assert cost["compare"] == cost["copy"] >= 1


def test_stand_in_opens_nothing() -> None:
    verifier = authenticator()
    stand_in = b"stands in for the secret of an access key id that does not exist"
    for region, service in (("eu-west-1", "execute-api"), ("ap-south-1", "sts")):
        for access_key_id in ("", "AKIDEXAMPLE9"):
            signed = request(access_key_id, region, service)
            key = wire.derive_signing_key(stand_in, b"20260301", region.encode(), service.encode())
            scope = f"20260301/{region}/{service}/aws4_request".encode()
            canonical = b"PUT\n/a/b\na=&z=\nhost:h\nx-amz-date:20260301T120000Z\n\nhost;x-amz-date\n" + b"ab" * 32
            text = wire.string_to_sign(b"20260301T120000Z", scope, canonical)
            signature = hmac.digest(key, text, "sha256").hex().encode()
            headers = tuple((name, value.replace(b"0" * 64, signature)) for name, value in signed.raw_headers)
            with pytest.raises(Unauthenticated) as refused:
                verifier.identify(Evidence(signed=replace(signed, raw_headers=headers)), NETWORK, NOW).send(None)
            assert refused.value.code == "authn.sigv4-key"
