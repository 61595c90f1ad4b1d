"""The stages in their order, one record for every attempt, one for every end, and a grant only after an allow."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.authn.tokens import stepped
from tests.fakes.gate import (
    ACCOUNT,
    ANYONE,
    LONG_AGO,
    NETWORK,
    NOBODY,
    Confirming,
    Later,
    MemoryRecorder,
    WordOfHonour,
    ask,
    bearer,
    make_gate,
    route,
    unavailable,
)
from ztproxy.audit.recorder import Recorder
from ztproxy.errors import ProtocolError, Unauthenticated
from ztproxy.gate import Gate, Grant, Refused
from ztproxy.types import DenyDetail, Evidence, NetworkContext, RouteLimits

ARN = f"arn:aws:execute-api:eu-west-1:{ACCOUNT}:orders/prod/GET/orders/42"
READS = {**ANYONE, "Sid": "AdaReads", "Resource": "execute-api:/prod/GET/orders/*"}
NEVER = {**ANYONE, "Sid": "NeverAdmin", "Effect": "Deny", "Resource": "execute-api:/prod/*/admin/*"}
UNREADABLE = {**ANYONE, "Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}}


def refusal(gate: Gate, evidence: Evidence = NOBODY, path: str = "/orders/42", **how: str) -> Refused:
    with pytest.raises(Refused) as refused:
        stepped(gate.admit(NETWORK, evidence, ask(path, **how)))
    return refused.value


def only(recorder: MemoryRecorder) -> dict[str, Any]:
    """The one record there is, which is a decision."""
    (body,) = recorder.bodies
    assert body["event"] == "access.decided"
    return body


def test_an_allowed_attempt_is_recorded_and_granted_in_one_step() -> None:
    recorder = MemoryRecorder()
    gate = make_gate(recorder, statements=[READS], now=lambda: LONG_AGO)
    grant = stepped(gate.admit(NETWORK, bearer(), ask()))
    decided = only(recorder)
    assert decided["id"] == grant.id == grant.request.id
    assert (decided["code"], decided["effect"], decided["at"]) == ("allowed", "allow", int(LONG_AGO * 1000))
    assert (decided["route"], decided["resource"], decided["generation"]) == ("orders", ARN, 7)
    assert (decided["method"], decided["host"], decided["path"]) == ("GET", "api.test", "/orders/42")
    assert (decided["identity"]["subject"], decided["network"]["peer"]) == ("ada", "192.0.2.7")
    assert decided["deciding"] == [{"kind": "resource", "sid": "AdaReads", "source": "orders.json:4"}]
    assert grant.decision.allowed
    assert (grant.request.identity.subject, grant.request.resource) == ("ada", ARN)
    assert (grant.request.ask, grant.request.network) == (ask(), NETWORK)


OUTCOMES: dict[str, tuple[dict[str, Any], Evidence, str, str]] = {
    "no route": ({"host": "other.test"}, bearer(), "/orders/42", "route.none"),
    "nobody": ({}, NOBODY, "/orders/42", "authn.missing"),
    "denied": ({}, bearer(), "/admin/1", "authz.denied-explicit"),
    "not allowed": ({}, bearer(), "/elsewhere", "authz.denied-implicit"),
}


@pytest.mark.parametrize(("how", "evidence", "path", "code"), OUTCOMES.values(), ids=list(OUTCOMES))
def test_a_refused_attempt_is_recorded_once_and_grants_nothing(
    how: dict[str, Any], evidence: Evidence, path: str, code: str
) -> None:
    recorder = MemoryRecorder()
    refused = refusal(make_gate(recorder, statements=[READS, NEVER]), evidence, path, **how)
    decided = only(recorder)
    assert (decided["id"], decided["code"]) == (refused.id, code)
    assert refused.error.code == code


def test_every_stage_is_reached_only_through_the_one_before() -> None:
    honour = WordOfHonour()
    recorder = MemoryRecorder()
    gate = make_gate(recorder, statements=[READS], authenticator=honour)
    refusal(gate, bearer(), host="other.test")
    assert honour.asked == 0
    assert (recorder.bodies[-1]["route"], recorder.bodies[-1]["resource"]) == (None, "GET/orders/42")
    honour.fails = Unauthenticated("authn.token-expired", "the token has expired")
    refusal(gate, bearer())
    failed = recorder.bodies[-1]
    assert (failed["route"], failed["identity"], failed["effect"], failed["resource"]) == ("orders", None, "none", ARN)
    honour.fails = None
    refusal(gate, bearer(), "/elsewhere")
    denied = recorder.bodies[-1]
    assert (denied["identity"]["subject"], denied["effect"]) == ("ada", "implicit_deny")
    assert denied["misses"][0]["statement"]["sid"] == "AdaReads"


def test_a_policy_that_cannot_be_evaluated_denies() -> None:
    recorder = MemoryRecorder()
    gate = make_gate(recorder, statements=[UNREADABLE])
    network = dataclasses.replace(NETWORK, facts={"aws:sourceip": "not an address"})
    with pytest.raises(Refused) as refused:
        stepped(gate.admit(network, bearer(), ask()))
    assert refused.value.error.code == only(recorder)["code"] == "authz.error"
    assert recorder.bodies[0]["errors"]


def test_a_bug_is_recorded_as_internal_and_never_an_allow() -> None:
    honour = WordOfHonour()
    honour.fails = ZeroDivisionError("in the authenticator")
    recorder = MemoryRecorder()
    refused = refusal(make_gate(recorder, authenticator=honour), bearer())
    assert (refused.error.code, refused.error.status) == ("internal", 500)
    assert only(recorder)["detail"] == "an internal error; ZeroDivisionError('in the authenticator')"
    assert isinstance(refused.__cause__, ZeroDivisionError)
    assert "authenticator" not in "".join(refused.reasons)


def resumed(recorder: MemoryRecorder, where: str, thrown: BaseException | None) -> Grant | BaseException:
    """What comes of an attempt that waits there when this is thrown in; None: what it waits for has come."""
    honour = WordOfHonour()
    honour.waits = Later() if where == "identity" else None
    recorder.wait = Later
    gate = make_gate(recorder, routes=[route(audit_required=where == "record")], authenticator=honour)
    attempt = gate.admit(NETWORK, bearer(), ask())
    attempt.send(None)
    assert len(recorder.bodies) == (where == "record")
    try:
        attempt.send(None) if thrown is None else attempt.throw(thrown)
    except StopIteration as done:
        granted: Grant = done.value
        return granted
    except BaseException as error:
        return error
    raise AssertionError("it waits again")


@pytest.mark.parametrize("where", ["identity", "record"])
def test_what_has_to_be_waited_for_is_and_then_granted(where: str) -> None:
    recorder = MemoryRecorder()
    granted = resumed(recorder, where, None)
    assert isinstance(granted, Grant)
    assert (only(recorder)["id"], only(recorder)["code"]) == (granted.id, "allowed")


@pytest.mark.parametrize("left", [asyncio.CancelledError, GeneratorExit])
def test_a_client_that_leaves_while_it_is_identified_is_recorded_once(left: type[BaseException]) -> None:
    """Cancelled, or merely closed, as when its task is cancelled before it ran for the first time."""
    recorder = MemoryRecorder()
    assert isinstance(resumed(recorder, "identity", left()), left)
    assert (only(recorder)["code"], recorder.bodies[0]["route"]) == ("client.closed", "orders")


@pytest.mark.parametrize(
    ("thrown", "code"),
    [
        (unavailable(), "audit.unavailable"),
        (asyncio.CancelledError(), "client.closed"),
        (GeneratorExit(), "client.closed"),
        (ZeroDivisionError(), "internal"),
    ],
    ids=repr,
)
def test_an_attempt_that_ends_while_its_record_is_awaited_is_decided_once_and_ended(
    thrown: BaseException, code: str
) -> None:
    """The decision is in the chain already, whatever becomes of it; what followed is its end, not a second decision."""
    recorder = MemoryRecorder()
    result = resumed(recorder, "record", thrown)
    assert result.error.code == code if isinstance(result, Refused) else result is thrown
    assert isinstance(result, Refused) is isinstance(thrown, Exception)
    (decided,), (ended,) = recorder.of("access.decided"), recorder.of("access.ended")
    assert (decided["code"], ended["code"], ended["id"]) == ("allowed", code, decided["id"])


def test_nothing_is_granted_when_the_record_cannot_be_written() -> None:
    recorder = MemoryRecorder()
    recorder.refuses = unavailable()
    refused = refusal(make_gate(recorder), bearer())
    assert (refused.error.code, refused.error.status) == ("audit.unavailable", 503)
    assert "disk full" not in "".join(refused.reasons)
    assert refusal(make_gate(recorder)).error.code == "authn.missing"


def test_a_required_record_is_on_disk_before_the_grant_is_given(tmp_path: Path) -> None:
    async def scenario() -> None:
        recorder = Recorder(tmp_path / "spool")
        recorder.open()
        gate = make_gate(recorder, routes=[route(audit_required=True)])
        grant = await gate.admit(NETWORK, bearer(), ask())
        written = b"".join(file.read_bytes() for file in (tmp_path / "spool").glob("*.jsonl"))
        (body,) = [json.loads(line)["body"] for line in written.splitlines()]
        assert (body["id"], body["code"]) == (grant.id, "allowed")
        recorder.close()

    asyncio.run(scenario())


def test_without_a_spool_a_required_record_refuses_at_once(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "spool")  # never opened
    with pytest.raises(Refused) as refused:
        stepped(make_gate(recorder, routes=[route(audit_required=True)]).admit(NETWORK, bearer(), ask()))
    assert refused.value.error.code == "audit.unavailable"


def test_a_grant_is_closed_once_and_says_what_passed() -> None:
    recorder = MemoryRecorder()
    grant = stepped(make_gate(recorder, now=lambda: LONG_AGO).admit(NETWORK, bearer(), ask()))
    grant.meter.bytes_in, grant.meter.bytes_out = 3, 5
    assert grant.meter.closed is False
    grant.close("completed", status=200)
    grant.close("client.closed", status=0)
    (ended,) = recorder.of("access.ended")
    assert grant.meter.closed is True
    assert ended["duration_us"] >= 0
    del ended["duration_us"]
    assert ended == {
        "at": int(LONG_AGO * 1000),
        "bytes_in": 3,
        "bytes_out": 5,
        "code": "completed",
        "detail": "",
        "event": "access.ended",
        "id": grant.id,
        "status": 200,
        "upstream": "http://127.0.0.1:9",
        "v": 1,
    }


def test_a_grant_that_ends_badly_says_how() -> None:
    recorder = MemoryRecorder()
    stepped(make_gate(recorder).admit(NETWORK, bearer(), ask())).close("upstream.tls", status=502, detail="self-signed")
    (ended,) = recorder.of("access.ended")
    assert (ended["code"], ended["status"], ended["detail"]) == ("upstream.tls", 502, "self-signed")


def test_an_end_that_cannot_be_recorded_stops_nobody() -> None:
    recorder = MemoryRecorder()
    grant = stepped(make_gate(recorder).admit(NETWORK, bearer(), ask()))
    recorder.refuses = unavailable()
    grant.close("completed")
    assert grant.meter.closed


@pytest.mark.parametrize(
    ("route_s", "identity_s", "decision_s", "expected"),
    [(50, 3600, None, 50), (300, 20, None, 20), (300, 20, 5, 5), (3, 20, 5, 3)],
)
def test_a_grant_ends_with_the_first_thing_it_rests_on(
    route_s: float, identity_s: float, decision_s: float | None, expected: float
) -> None:
    honour = WordOfHonour()
    honour.lasts_s = identity_s
    statement = dict(ANYONE)
    if decision_s is not None:
        statement["Condition"] = {"DateLessThan": {"aws:EpochTime": str(int(LONG_AGO + decision_s))}}
    gate = make_gate(
        MemoryRecorder(),
        routes=[route(limits=RouteLimits(total_s=route_s))],
        statements=[statement],
        authenticator=honour,
        now=lambda: LONG_AGO,
    )
    before = monotonic()
    deadline = stepped(gate.admit(NETWORK, bearer(), ask())).deadline
    assert before + expected <= deadline <= monotonic() + expected


@pytest.mark.parametrize(
    ("given", "evidence", "path", "level", "reasons"),
    [
        (None, NOBODY, "/admin/1", DenyDetail.ID, ("no credential that this route accepts came with the request",)),
        (None, bearer(), "/admin/1", DenyDetail.REASON, ("statement `NeverAdmin` denies this",)),
        (DenyDetail.ID, bearer(), "/admin/1", DenyDetail.ID, ("statement `NeverAdmin` denies this",)),
        (
            DenyDetail.REASON,
            NOBODY,
            "/admin/1",
            DenyDetail.REASON,
            ("no credential that this route accepts came with the request",),
        ),
        (
            DenyDetail.FULL,
            bearer(),
            "/admin/1",
            DenyDetail.FULL,
            ("explicit deny", "decided by NeverAdmin (orders.json:11), resource policy"),
        ),
    ],
)
def test_how_much_a_refused_caller_learns(
    given: DenyDetail | None, evidence: Evidence, path: str, level: DenyDetail, reasons: tuple[str, ...]
) -> None:
    gate = make_gate(MemoryRecorder(), routes=[route(deny_detail=given)], statements=[READS, NEVER])
    refused = refusal(gate, evidence, path)
    assert (refused.level, refused.reasons) == (level, reasons)


def test_a_stranger_learns_why_something_of_ours_failed_but_not_where_routes_are() -> None:
    honour = WordOfHonour()
    honour.fails = Unauthenticated("authn.keys-unavailable", "the issuer's keys cannot be had")
    gate = make_gate(MemoryRecorder(), authenticator=honour)
    assert refusal(gate, bearer()).level is DenyDetail.REASON
    assert refusal(gate, bearer(), host="other.test").level is DenyDetail.ID


def test_what_never_became_an_ask_is_recorded_with_what_is_known() -> None:
    recorder = MemoryRecorder()
    gate = make_gate(recorder)
    refused = gate.reject(NETWORK, ProtocolError("protocol.target", "a dot segment", detail="`..`"))
    first = only(recorder)
    assert (first["id"], first["code"], first["detail"]) == (refused.id, "protocol.target", "a dot segment; `..`")
    assert (first["method"], first["host"], first["path"], first["action"]) == ("", "", "", "")
    assert (refused.level, refused.reasons) == (DenyDetail.REASON, ("a dot segment",))
    gate.reject(NETWORK, ProtocolError("protocol.body-size", "too large"), ask("/up", method="POST"))
    second = recorder.bodies[1]
    assert (second["method"], second["host"], second["path"]) == ("POST", "api.test", "/up")
    assert second["detail"] == "too large"


def test_a_failed_handshake_is_a_record_of_its_own() -> None:
    recorder = MemoryRecorder()
    gate = make_gate(recorder, now=lambda: LONG_AGO)
    error = ProtocolError("protocol.tls", "the handshake failed", detail="no shared cipher")
    gate.failed_connection(listener="edge", peer="192.0.2.7", peer_port=4000, error=error)
    (failed,) = recorder.of("connection.failed")
    assert (failed["code"], failed["detail"], failed["peer_port"]) == ("protocol.tls", "no shared cipher", 4000)
    assert failed["at"] == int(LONG_AGO * 1000)


def test_no_two_attempts_share_an_id_within_or_across_gates() -> None:
    recorder = MemoryRecorder()
    for gate in (make_gate(recorder), make_gate(recorder)):
        for _ in range(20):
            stepped(gate.admit(NETWORK, bearer(), ask()))
    assert len({body["id"] for body in recorder.bodies}) == 40


def test_records_never_mix_up_callers_or_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is serialised once per caller and connection is bounded, and never found again for another."""
    monkeypatch.setattr("ztproxy.gate._MOST_FRAGMENTS", 3)
    recorder = MemoryRecorder()
    gate = make_gate(recorder, statements=[READS])
    expected = []
    for number in range(50):
        network = NetworkContext(listener="edge", peer=f"192.0.2.{number}", peer_port=number)
        path = "/orders/1" if number % 3 else "/elsewhere"
        try:
            stepped(gate.admit(network, bearer(f"caller {number}"), ask(path)))
        except Refused:
            assert number % 3 == 0
        expected.append((f"caller {number}", f"192.0.2.{number}", path))
    seen = [(body["identity"]["subject"], body["network"]["peer"], body["path"]) for body in recorder.bodies]
    assert seen == expected


def test_the_same_caller_again_is_recorded_afresh() -> None:
    recorder, honour = MemoryRecorder(), WordOfHonour()
    seconds = iter([LONG_AGO, LONG_AGO + 1])
    gate = make_gate(recorder, authenticator=honour, now=lambda: next(seconds))
    evidence = bearer()
    stepped(gate.admit(NETWORK, evidence, ask("/a", method="PUT")))
    stepped(gate.admit(NETWORK, evidence, ask("/b%22")))
    first, second = recorder.bodies
    assert (first["method"], first["path"], second["method"], second["path"]) == ("PUT", "/a", "GET", "/b%22")
    assert second["at"] - first["at"] == 1000
    assert second["resource"].endswith(":orders/prod/GET/b%22")


def test_a_proof_that_still_stands_is_not_asked_for_again_and_one_that_fell_is() -> None:
    honour = Confirming()
    now = [LONG_AGO]
    gate = make_gate(MemoryRecorder(), authenticator=honour, now=lambda: now[0])
    evidence = bearer()
    stepped(gate.admit(NETWORK, evidence, ask()))
    stepped(gate.admit(NETWORK, evidence, ask()))
    assert honour.asked == 1
    honour.holds = False
    stepped(gate.admit(NETWORK, evidence, ask()))
    assert honour.asked == 2
    honour.holds = True
    now[0] += timedelta(hours=2).total_seconds()
    stepped(gate.admit(NETWORK, evidence, ask()))
    assert honour.asked == 3
