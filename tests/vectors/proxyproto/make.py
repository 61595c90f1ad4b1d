"""Writes `own.json`: PROXY headers laid out byte by byte from the specification, none by our own encoder.

The checksum oracle is the bit-by-bit CRC-32C, checked against the examples of RFC 3720 B.4 before it is used.
Run `python tests/vectors/proxyproto/make.py`; a test compares the file with what this makes.
"""

from __future__ import annotations

import json
import struct
from ipaddress import ip_address
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("own.json")
SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
NLB = "AWS, Network Load Balancers, Proxy protocol v2"
Tlvs = list[tuple[int, bytes]]


def crc32c(data: bytes) -> int:
    """CRC-32C, one bit at a time."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def check_oracle() -> None:
    """RFC 3720 B.4."""
    examples = {bytes(32): 0x8A9136AA, b"\xff" * 32: 0x62A8AB43, bytes(range(32)): 0x46DD794E}
    examples[bytes(range(31, -1, -1))] = 0x113FDB5C
    for data, expected in examples.items():
        if crc32c(data) != expected:
            raise SystemExit("the checksum oracle is wrong")


def v2(kinds: bytes, block: bytes) -> bytes:
    """A header from bytes 13 and 14 and everything behind the length."""
    return SIGNATURE + kinds + struct.pack("!H", len(block)) + block


def ends(source: str, destination: str, *ports: int) -> bytes:
    return ip_address(source).packed + ip_address(destination).packed + struct.pack("!HH", *ports)


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def summed(header: bytes, at: int, error: int = 0) -> bytes:
    """The header with the checksum of itself written over four zero bytes at `at`."""
    return header[:at] + struct.pack("!I", crc32c(header) ^ error) + header[at + 4 :]


FOUR = ends("10.1.2.3", "10.9.8.7", 40000, 443)
SIX = ends("2001:db8::1", "2001:db8::2", 40000, 443)
OK_FOUR = {"src": "10.1.2.3", "dst": "10.9.8.7", "src_port": 40000, "dst_port": 443}
OK_SIX = {"src": "2001:db8::1", "dst": "2001:db8::2", "src_port": 40000, "dst_port": 443}
VPCE = b"vpce-0123456789abcdef0"


def cases() -> list[dict[str, Any]]:
    """All cases in the shape of the corpus."""
    check_oracle()
    made: list[dict[str, Any]] = []

    def accept(
        name: str, data: bytes, source: str, *, trailing: bytes = b"", tlvs: Tlvs | None = None, **more: Any
    ) -> None:
        expected: dict[str, Any] = {"result": "ok", "command": "PROXY", "family": "INET", "transport": "STREAM"}
        expected |= {"header_len": len(data), "trailing": trailing.hex(), **more}
        if tlvs is not None:
            expected |= {"tlvs": [{"type": kind, "value_hex": value.hex()} for kind, value in tlvs]}
        made.append({"id": name, "hex": (data + trailing).hex(), "expected": expected, "source": source})

    def refuse(name: str, data: bytes, reason: str, source: str) -> None:
        made.append(
            {"id": name, "hex": data.hex(), "expected": {"result": "error", "reason": reason}, "source": source}
        )

    _addresses(accept)
    _aws(accept)
    _sums(accept)
    _refused(refuse)
    _v1(accept, refuse)
    return made


def _addresses(accept: Any) -> None:
    spec = "PROXY protocol §2.2"
    accept("inet-stream", v2(b"\x21\x11", FOUR), spec, tlvs=[], **OK_FOUR)
    accept("inet-client-hello-behind", v2(b"\x21\x11", FOUR), spec, trailing=b"\x16\x03\x01", tlvs=[], **OK_FOUR)
    accept("second-header-behind", v2(b"\x21\x11", FOUR), spec, trailing=v2(b"\x21\x11", FOUR), tlvs=[], **OK_FOUR)
    accept("inet6-dgram", v2(b"\x21\x22", SIX), spec, tlvs=[], **OK_SIX | {"family": "INET6", "transport": "DGRAM"})
    mapped = ends("::ffff:10.1.2.3", "::ffff:10.9.8.7", 40000, 443)
    accept("inet6-mapped", v2(b"\x21\x21", mapped), "RFC 4291 §2.5.5.2", tlvs=[], **OK_FOUR | {"family": "INET6"})
    accept("inet-unspec", v2(b"\x21\x10", FOUR), spec, tlvs=[], **OK_FOUR | {"transport": "UNSPEC"})
    nothing = {"src": None, "dst": None, "src_port": 0, "dst_port": 0}
    unix = v2(b"\x21\x31", b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0"))
    accept("unix-stream", unix, spec, tlvs=[], **nothing | {"family": "UNIX"})
    unknown = nothing | {"family": "UNSPEC", "transport": "UNSPEC"}
    accept("proxy-unspec", v2(b"\x21\x00", b""), spec, tlvs=[], **unknown)
    local = unknown | {"command": "LOCAL"}
    accept("local-empty", v2(b"\x20\x00", b""), spec, tlvs=[], **local)
    accept("local-with-tlv", v2(b"\x20\x00", tlv(4, b"\0")), spec, tlvs=[(4, b"\0")], **local)
    ignored = nothing | {"command": "LOCAL"}
    accept("local-with-addresses", v2(b"\x20\x11", FOUR + tlv(5, b"id")), spec, tlvs=[(5, b"id")], **ignored)
    accept("local-block-too-short", v2(b"\x20\x11", b"\xaa\xbb"), spec + ": discarded", tlvs=[], **ignored)
    empty = [(1, b""), (0x7F, b"x" * 300)]
    block = FOUR + b"".join(tlv(*one) for one in empty)
    accept("empty-and-long-tlv", v2(b"\x21\x11", block), spec + ".7", tlvs=empty, **OK_FOUR)


def _aws(accept: Any) -> None:
    four = v2(b"\x21\x11", FOUR + tlv(0xEA, b"\x01" + VPCE))
    accept("vpce", four, NLB, aws_vpce_id=VPCE.decode(), aws_tlv_malformed=False, **OK_FOUR)
    six = v2(b"\x21\x21", SIX + tlv(0xEA, b"\x01" + VPCE))
    accept("vpce-inet6", six, NLB, aws_vpce_id=VPCE.decode(), **OK_SIX | {"family": "INET6"})
    short = v2(b"\x21\x11", FOUR + tlv(0xEA, b"\x01vpce-0a1b2c3d"))
    accept("vpce-eight-digits", short, "AWS, VPC endpoint ids: 8 or 17 hex digits", aws_vpce_id="vpce-0a1b2c3d")
    other = v2(b"\x21\x11", FOUR + tlv(0xEA, b"\x02anything"))
    accept("aws-other-subtype", other, NLB, aws_vpce_id=None, aws_tlv_malformed=False)
    for name, value in (
        ("empty", b""),
        ("no-id", b"\x01"),
        ("upper", b"\x01" + VPCE.upper()),
        ("newline", b"\x01" + VPCE + b"\n"),
        ("seven-digits", b"\x01vpce-0123456"),
        ("eighteen-digits", b"\x01" + VPCE + b"0"),
        ("nul", b"\x01" + VPCE + b"\0"),
        ("other-prefix", b"\x01vpc-0123456789abcdef0"),
        ("not-ascii", b"\x01vpce-0123456789abcd\xc3\xa9"),
    ):
        header = v2(b"\x21\x11", FOUR + tlv(0xEA, value))
        accept(f"vpce-{name}", header, NLB, aws_vpce_id=None, aws_tlv_malformed=True, **OK_FOUR)
    twice = v2(b"\x21\x11", FOUR + tlv(0xEA, b"\x01" + VPCE) + tlv(0xEA, b"\x01vpce-0a1b2c3d"))
    accept("vpce-twice", twice, "ours: which of two ids would count?", aws_vpce_id=None, aws_tlv_malformed=True)


def _sums(accept: Any) -> None:
    spec = "PROXY protocol §2.2.3; RFC 3720 §12.1"
    plain = v2(b"\x21\x11", FOUR + tlv(3, bytes(4)))
    accept("crc-alone", summed(plain, 31), spec, crc32c_valid=True, **OK_FOUR)
    accept("crc-wrong-bit", summed(plain, 31, error=1), spec, crc32c_valid=False, **OK_FOUR)
    nlb = v2(b"\x21\x11", FOUR + tlv(3, bytes(4)) + tlv(0xEA, b"\x01" + VPCE) + tlv(4, bytes(36)))
    accept("nlb-order", summed(nlb, 31), NLB, crc32c_valid=True, aws_vpce_id=VPCE.decode(), **OK_FOUR)
    last = v2(b"\x21\x21", SIX + tlv(0xEA, b"\x01" + VPCE) + tlv(3, bytes(4)))
    accept(
        "crc-last",
        summed(last, len(last) - 4),
        spec,
        crc32c_valid=True,
        aws_vpce_id=VPCE.decode(),
        **OK_SIX | {"family": "INET6"},
    )
    altered = bytearray(summed(nlb, 31))
    altered[16] ^= 1
    accept("crc-address-altered", bytes(altered), spec, crc32c_valid=False, aws_vpce_id=VPCE.decode(), src="11.1.2.3")
    trailing = summed(plain, 31)
    accept("crc-not-over-trailing", trailing, spec, trailing=b"\x16\x03", crc32c_valid=True, **OK_FOUR)
    twice = v2(b"\x21\x11", FOUR + tlv(3, bytes(4)) + tlv(3, bytes(4)))
    accept("crc-twice", summed(twice, 31), "ours: which of two sums would count?", crc32c_valid=False, **OK_FOUR)
    for size in (0, 3, 5):
        accept(f"crc-of-{size}-bytes", v2(b"\x21\x11", FOUR + tlv(3, bytes(size))), spec, crc32c_valid=False)


def _refused(refuse: Any) -> None:
    spec = "PROXY protocol §2.2"
    good = v2(b"\x21\x11", FOUR)
    refuse("nothing", b"", "incomplete", spec)
    refuse("half-signature", SIGNATURE[:7], "incomplete", spec)
    refuse("fifteen-bytes", good[:15], "incomplete", spec)
    refuse("last-byte-missing", good[:-1], "incomplete", spec)
    refuse("client-hello", bytes.fromhex("16030100c8010000c40303"), "no_signature", "RFC 8446 §4.1.2")
    refuse("http", b"GET / HTTP/1.1\r\n\r\n", "no_signature", "RFC 9112 §3")
    refuse("proxy-lower-case", b"proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n", "no_signature", "PROXY protocol §2.1")
    refuse("signature-last-byte", SIGNATURE[:11] + b"\x0b" + good[12:], "no_signature", spec)
    refuse("version-1-in-binary", v2(b"\x11\x11", FOUR), "bad_version", spec)
    refuse("version-3", v2(b"\x31\x11", FOUR), "bad_version", spec)
    refuse("command-2", v2(b"\x22\x11", FOUR), "bad_command", spec)
    refuse("family-4", v2(b"\x21\x41", FOUR), "bad_family", spec)
    refuse("transport-15", v2(b"\x21\x1f", FOUR), "bad_transport", spec)
    refuse("inet-eleven-bytes", v2(b"\x21\x11", FOUR[:-1]), "address_block_too_short", spec)
    refuse("unix-with-inet-block", v2(b"\x21\x31", FOUR), "address_block_too_short", spec)
    refuse("tlv-one-byte-left", v2(b"\x21\x11", FOUR + b"\x04"), "bad_tlv", spec + ".7")
    refuse("tlv-two-bytes-left", v2(b"\x21\x11", FOUR + b"\x04\x00"), "bad_tlv", spec + ".7")
    refuse("tlv-longer-than-header", v2(b"\x21\x11", FOUR + b"\x04\x00\x02\x00"), "bad_tlv", spec + ".7")
    refuse("tlv-into-trailing", v2(b"\x21\x11", FOUR + b"\x04\x00\x03") + b"\x16\x03\x01", "bad_tlv", spec + ".7")
    refuse("beyond-4-kib", v2(b"\x21\x11", FOUR + tlv(4, bytes(4400))), "too_large", "ours: read limit of 232 + 4096")


def _v1(accept: Any, refuse: Any) -> None:
    spec = "PROXY protocol §2.1"
    accept("v1-tcp4", b"PROXY TCP4 10.1.2.3 10.9.8.7 40000 443\r\n", spec, version=1, tlvs=[], **OK_FOUR)
    six = b"PROXY TCP6 2001:DB8::1 2001:db8:0:0:0:0:0:2 40000 443\r\n"
    accept("v1-tcp6", six, spec, version=1, **OK_SIX | {"family": "INET6"})
    accept("v1-shortest", b"PROXY TCP6 :: :: 0 0\r\n", spec, src="::", dst="::", src_port=0, family="INET6")
    mapped = b"PROXY TCP6 ::ffff:10.1.2.3 ::ffff:a09:807 40000 443\r\n"
    accept("v1-mapped", mapped, "RFC 4291 §2.5.5.2", **OK_FOUR | {"family": "INET6"})
    longest = b"PROXY TCP6 " + b" ".join([b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] * 2) + b" 65535 65535\r\n"
    accept("v1-longest-tcp6", longest, spec, trailing=b"\x16\x03", src_port=65535, dst_port=65535, family="INET6")
    unknown = {"command": "LOCAL", "family": "UNSPEC", "transport": "UNSPEC", "src": None, "src_port": 0}
    accept("v1-unknown", b"PROXY UNKNOWN\r\n", spec, trailing=b"\r\n", **unknown)
    accept("v1-unknown-longest", b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n", spec, **unknown)
    refuse("v1-108-bytes", b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n", "too_large", spec)
    refuse("v1-no-end", b"PROXY TCP4 10.1.2.3 10.9.8.7 40000 443", "incomplete", spec)
    refuse("v1-cr-only", b"PROXY TCP4 10.1.2.3 10.9.8.7 40000 443\r", "incomplete", spec)
    refuse("v1-lf-only", b"PROXY TCP4 10.1.2.3 10.9.8.7 40000 443\n", "bad_line", spec)
    refuse("v1-cr-inside", b"PROXY TCP4 10.1.2.3\r10.9.8.7 40000 443\r\n", "bad_line", spec)
    for name, line, reason in (
        ("udp", b"UDP4 10.1.2.3 10.9.8.7 1 2", "bad_family"),
        ("tcp5", b"TCP5 10.1.2.3 10.9.8.7 1 2", "bad_family"),
        ("empty-family", b" 10.1.2.3 10.9.8.7 1 2", "bad_family"),
        ("five-fields", b"TCP4 10.1.2.3 10.9.8.7 1", "bad_line"),
        ("seven-fields", b"TCP4 10.1.2.3 10.9.8.7 1 2 3", "bad_line"),
        ("two-spaces", b"TCP4  10.1.2.3 10.9.8.7 1 2", "bad_line"),
        ("tab", b"TCP4 10.1.2.3\t10.9.8.7 1 2", "bad_line"),
        ("port-65536", b"TCP4 10.1.2.3 10.9.8.7 65536 2", "bad_port"),
        ("port-leading-zero", b"TCP4 10.1.2.3 10.9.8.7 01 2", "bad_port"),
        ("port-sign", b"TCP4 10.1.2.3 10.9.8.7 +1 2", "bad_port"),
        ("port-empty", b"TCP4 10.1.2.3 10.9.8.7 1 ", "bad_port"),
        ("inet6-in-tcp4", b"TCP4 ::1 ::1 1 2", "bad_address"),
        ("inet-in-tcp6", b"TCP6 10.1.2.3 10.9.8.7 1 2", "bad_address"),
        ("zone", b"TCP6 fe80::1%eth0 ::1 1 2", "bad_address"),
        ("octal", b"TCP4 010.1.2.3 10.9.8.7 1 2", "bad_address"),
        ("three-parts", b"TCP4 10.1.3 10.9.8.7 1 2", "bad_address"),
        ("part-256", b"TCP4 10.1.2.256 10.9.8.7 1 2", "bad_address"),
        ("nine-groups", b"TCP6 1:2:3:4:5:6:7:8:9 ::1 1 2", "bad_address"),
        ("name", b"TCP4 localhost 10.9.8.7 1 2", "bad_address"),
    ):
        refuse(f"v1-{name}", b"PROXY " + line + b"\r\n", reason, spec)


def text() -> str:
    """What the file must say."""
    return json.dumps({"format": 1, "cases": cases()}, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="ascii")
