"""SPIFFE IDs and client certificates of the x509 corpus, at function level; what OpenSSL must refuse is tested live."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ztproxy.authn.mtls import certificate_identity
from ztproxy.authn.spiffe import parse_spiffe_id
from ztproxy.errors import Unauthenticated
from ztproxy.types import Identity, PresentedCertificate

OWN_IDS = [
    {"id": "own/workload", "value": "spiffe://prod.example.com/billing", "expected": "accept"},
    {"id": "own/trust-domain", "value": "spiffe://prod.example.com", "expected": "accept"},
    {"id": "own/scheme-case", "value": "Spiffe://prod.example.com/billing", "expected": "reject"},
    {"id": "own/slash", "value": "spiffe://prod.example.com/billing/", "expected": "reject"},
    {"id": "own/dot-dot", "value": "spiffe://prod.example.com/a/../b", "expected": "reject"},
]


def third_party(name: str) -> list[dict[str, Any]]:
    folder = os.environ.get("ZTPROXY_VECTORS")
    if folder is None:
        return []
    cases: list[dict[str, Any]] = json.loads((Path(folder) / "x509" / name).read_text())["cases"]
    return cases


CHAINS = third_party("client_chains.json")
LEAVES = [case for case in CHAINS if case["layer"] in {"spiffe", "identity"}]
PATHS = [case for case in CHAINS if case["layer"] in {"path", "crl"} and case["expected"] == "accept"]


@pytest.mark.parametrize("case", OWN_IDS + third_party("spiffe_ids.json"), ids=lambda case: case["id"])
def test_spiffe_id(case: dict[str, Any]) -> None:
    try:
        parse_spiffe_id(case["value"])
        verdict = "accept"
    except ValueError:
        verdict = "reject"
    assert verdict == case["expected"], case.get("why", "")


def identity(case: dict[str, Any]) -> Identity:
    leaf = x509.load_pem_x509_certificate(case["leaf"].encode())
    presented = PresentedCertificate(
        der=leaf.public_bytes(Encoding.DER),
        authority="corpus",
        chain_expires_at=leaf.not_valid_after_utc,
        trust_domain=None if "identity" in case["config"] else case["config"]["trust_domain"],
    )
    return certificate_identity(presented, datetime.fromisoformat(case["at"]))


def judge(case: dict[str, Any]) -> str:
    try:
        who = identity(case)
    except Unauthenticated as error:
        return "reject" if error.code.startswith("authn.certificate-") else error.code
    if "identity" not in case["config"]:
        return "accept"
    return "accept" if who.facts.get("ztproxy:clientcert/subjectcn") == case["config"]["allowed_cn"] else "reject"


def test_every_leaf_of_the_corpus_is_judged_as_it_says() -> None:
    wrong = {case["id"]: case["why"] for case in LEAVES if case["expected"] not in {judge(case), "either"}}
    assert wrong == {}


def test_leaves_of_good_chains_are_taken() -> None:
    assert {case["id"]: judge(case) for case in PATHS if judge(case) != "accept"} == {}
