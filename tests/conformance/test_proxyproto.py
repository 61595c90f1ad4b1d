"""Every header of our own cases, and of $ZTPROXY_VECTORS/proxyproto when it is set, parses as its case says."""

from __future__ import annotations

import json
import os
import runpy
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest

from ztproxy.errors import ProtocolError
from ztproxy.wire.proxyproto import ProxyHeader, decode, needed

OWN = Path(__file__).resolve().parent.parent / "vectors" / "proxyproto"
FOLDERS = [OWN, *(Path(root) / "proxyproto" for root in [os.environ.get("ZTPROXY_VECTORS")] if root)]
FILES = [file for folder in FOLDERS for file in sorted(folder.glob("*.json"))]
CASES = [
    pytest.param(case, id=f"{file.stem}:{case['id']}")
    for file in FILES
    for case in json.loads(file.read_text(encoding="utf-8"))["cases"]
]


def address(text: str | None) -> str | None:
    """Addresses compare as addresses, and a mapped one is the IPv4 address it stands for."""
    parsed = None if text is None else ip_address(text)
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return None if parsed is None else str(mapped or parsed)


def facts(header: ProxyHeader, data: bytes) -> dict[str, Any]:
    """The header in the words of the corpus."""
    return {
        "result": "ok",
        "version": header.version,
        "command": header.command,
        "family": header.family.upper(),
        "transport": header.transport.upper(),
        "header_len": header.size,
        "trailing": data[header.size :].hex(),
        "src": header.source,
        "dst": header.destination,
        "src_port": header.source_port,
        "dst_port": header.destination_port,
        "tlvs": [{"type": kind, "value_hex": value.hex()} for kind, value in header.tlvs],
        "crc32c_valid": header.crc32c_valid,
        "aws_vpce_id": header.vpce_id,
        "aws_tlv_malformed": header.aws_tlv_malformed,
    }


@pytest.mark.parametrize("case", CASES)
def test_header(case: dict[str, Any]) -> None:
    data, expected = bytes.fromhex(case["hex"]), dict(case["expected"])
    if expected["result"] == "error":
        with pytest.raises(ProtocolError) as caught:
            decode(data)
        assert caught.value.code == "protocol.proxy-header"
        assert caught.value.detail.partition(":")[0] == expected["reason"]
        return
    header = decode(data)
    found = facts(header, data)
    for key in {"src", "dst"} & expected.keys():
        expected[key] = address(expected[key])
    assert {key: found[key] for key in expected} == expected
    # The id and the sum are facts of a TLV: a case that names neither carries none.
    assert "aws_vpce_id" in expected or header.vpce_id is None
    assert "tlvs" not in expected or "crc32c_valid" in expected or header.crc32c_valid is None
    assert needed(data) == 0
    assert 0 < needed(data[: header.size - 1]) <= 1


def test_own_cases_are_what_the_script_makes() -> None:
    assert (OWN / "own.json").read_text(encoding="ascii") == runpy.run_path(str(OWN / "make.py"))["text"]()


def test_every_case_has_a_source() -> None:
    for case in json.loads((OWN / "own.json").read_text(encoding="ascii"))["cases"]:
        assert case["source"]
