"""The PROXY protocol header, versions 1 and 2: who the client was before a load balancer stood in between.

A v2 header is 16 fixed bytes, then as many as their last two announce: addresses (12, 36 or 216 bytes by family), then
TLVs. A v1 header is one line of at most 107 bytes. The bytes behind either belong to TLS, so a reader never takes more
than `needed` tells it to: that count is a lower bound of what the header still must bring, hence always safe to read,
and 0 once `decode` can be called. Reading by it costs two reads for v2 and a handful for v1, and no byte is ever peeked
at or pushed back.

`decode` reports facts: an endpoint id or none, a checksum right or wrong. Whether a wrong one closes the connection is
for the listener to say. Each refusal's `detail` starts with the name of its reason (`bad_tlv`).

Source: PROXY protocol §2.1 (v1), §2.2 (v2); the AWS TLV: "Proxy protocol", Network Load Balancer guide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from ztproxy.errors import ProtocolError

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
TLV_CRC32C: Final = 0x03
TLV_NOOP: Final = 0x04
TLV_AWS: Final = 0xEA
AWS_VPCE_ID: Final = 0x01
"""First byte of an AWS TLV that holds a VPC endpoint id."""

LONGEST_V1: Final = 107
"""With its CRLF; the longest of all is an UNKNOWN line with two full IPv6 addresses."""
LONGEST_V2: Final = 16 + 216 + 4096
"""STRICTER: the length field could announce 64 KiB, which no balancer sends and nobody needs before TLS."""

_FIXED: Final = 16
_SHORTEST: Final = len(b"PROXY UNKNOWN\r\n")
"""No header of either version is shorter."""
_COMMANDS: Final = ("LOCAL", "PROXY")
_FAMILIES: Final = ("unspec", "inet", "inet6", "unix")
_TRANSPORTS: Final = ("unspec", "stream", "dgram")
_ADDRESS_BYTES: Final = {"unspec": 0, "inet": 12, "inet6": 36, "unix": 216}
_V1_FAMILIES: Final = {b"TCP4": "inet", b"TCP6": "inet6"}
_V1_SHORTEST: Final = {b"TCP4": (5, 4, 7, 7, 1, 1), b"TCP6": (5, 4, 2, 2, 1, 1)}
"""The shortest text of each of the six fields: `0.0.0.0`, `::`."""
_V1_PORT: Final = re.compile(rb"0|[1-9][0-9]{0,4}")
_V1_DOTTED: Final = re.compile(rb"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_V1_COLONED: Final = re.compile(rb"[0-9A-Fa-f]*:[0-9A-Fa-f:.]+")
_VPCE_ID: Final = re.compile(rb"vpce-[0-9a-f]{8,17}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyHeader:
    """One PROXY header as it was sent; nothing in it is true unless the sender is trusted."""

    version: int
    command: str
    """`PROXY`, or `LOCAL`: the balancer speaks for itself (health checks), take the socket's own addresses."""
    family: str
    """`inet`, `inet6`, `unix` or `unspec`."""
    transport: str
    """`stream`, `dgram` or `unspec`."""
    source: str | None = None
    """Canonical text, IPv4-mapped IPv6 made IPv4 (S33); None unless the family is `inet` or `inet6`."""
    source_port: int = 0
    destination: str | None = None
    destination_port: int = 0
    tlvs: tuple[tuple[int, bytes], ...] = ()
    """Type and value, in order."""
    vpce_id: str | None = None
    aws_tlv_malformed: bool = False
    """An AWS TLV claims an endpoint id and does not hold exactly one well-formed id."""
    crc32c_valid: bool | None = None
    """None: no checksum was sent."""
    size: int
    """Bytes of the whole header."""


def _refused(reason: str, why: str) -> ProtocolError:
    return ProtocolError("protocol.proxy-header", "the PROXY header was refused", detail=f"{reason}: {why}")


def canonical_address(address: str | bytes) -> str:
    """An IP address, given as text or packed, in canonical text, with IPv4-mapped IPv6 made IPv4.

    Raises: `ValueError` for what is no address, and for one with a zone id: it names a place on one host only.
    """
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address):
        if parsed.scope_id is not None:
            raise ValueError(f"`{address!r}` has a zone id")
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
    return str(parsed)


def needed(buffer: bytes | bytearray) -> int:
    """How many bytes may be read next without reading past the header; 0 once it is complete.

    Raises: `ProtocolError` as soon as the bytes so far cannot become a header within its limits.
    """
    start = bytes(buffer[:LONGEST_V1])
    if not start:
        return _SHORTEST
    if _is_v1(start):
        return _needed_v1(start)
    if len(start) < _FIXED:
        return _FIXED - len(start)
    _fixed_part(start)
    size = _FIXED + int.from_bytes(start[14:16], "big")
    if size > LONGEST_V2:
        raise _refused("too_large", f"{size} bytes are announced, at most {LONGEST_V2} are read")
    return max(0, size - len(buffer))


def decode(buffer: bytes | bytearray) -> ProxyHeader:
    """The header at the start of the buffer, which may go on behind it (see `ProxyHeader.size`).

    Raises: `ProtocolError` with code `protocol.proxy-header`.
    """
    start = bytes(buffer[:LONGEST_V1])
    if _is_v1(start):
        return _decode_v1(start)
    if len(start) < _FIXED:
        raise _refused("incomplete", f"{len(start)} bytes of a header")
    return _decode_v2(buffer)


def _is_v1(start: bytes) -> bool:
    if b"PROXY ".startswith(start[:6]) and start:
        return True
    if not SIGNATURE.startswith(start[: len(SIGNATURE)]):
        raise _refused("no_signature", "neither version 1 nor version 2 starts like this")
    return False


def _fixed_part(start: bytes) -> tuple[str, str, str]:
    version, command = divmod(start[12], 16)
    family, transport = divmod(start[13], 16)
    if version != 2:
        raise _refused("bad_version", f"version {version}")
    if command >= len(_COMMANDS):
        raise _refused("bad_command", f"command {command}")
    if family >= len(_FAMILIES):
        raise _refused("bad_family", f"address family {family}")
    if transport >= len(_TRANSPORTS):
        raise _refused("bad_transport", f"transport {transport}")
    return _COMMANDS[command], _FAMILIES[family], _TRANSPORTS[transport]


def _decode_v2(buffer: bytes | bytearray) -> ProxyHeader:
    command, family, transport = _fixed_part(bytes(buffer[:_FIXED]))
    size = _FIXED + int.from_bytes(buffer[14:16], "big")
    if len(buffer) < size:
        raise _refused("incomplete", f"{len(buffer)} of {size} bytes")
    if size > LONGEST_V2:
        raise _refused("too_large", f"{size} bytes, at most {LONGEST_V2} are read")
    header = bytes(buffer[:size])
    tlvs_at = _FIXED + _ADDRESS_BYTES[family]
    if tlvs_at > size:
        if command == "PROXY":
            raise _refused("address_block_too_short", f"{size - _FIXED} bytes for family `{family}`")
        tlvs_at = size  # §2.2: a LOCAL header is valid whatever its block says, and the block is discarded
    tlvs = _tlvs(header, tlvs_at)
    source: str | None = None
    destination: str | None = None
    source_port = destination_port = 0
    if command == "PROXY" and family in ("inet", "inet6"):
        # Two addresses, then two ports of two bytes each, fill the block.
        width = (_ADDRESS_BYTES[family] - 4) // 2
        source = canonical_address(header[_FIXED : _FIXED + width])
        destination = canonical_address(header[_FIXED + width : _FIXED + 2 * width])
        source_port = int.from_bytes(header[tlvs_at - 4 : tlvs_at - 2], "big")
        destination_port = int.from_bytes(header[tlvs_at - 2 : tlvs_at], "big")
    vpce_id, malformed = _vpce_id(tlvs)
    return ProxyHeader(
        version=2,
        command=command,
        family=family,
        transport=transport,
        source=source,
        source_port=source_port,
        destination=destination,
        destination_port=destination_port,
        tlvs=tuple((kind, value) for kind, value, _ in tlvs),
        vpce_id=vpce_id,
        aws_tlv_malformed=malformed,
        crc32c_valid=_crc32c_valid(header, tlvs),
        size=size,
    )


def _tlvs(header: bytes, at: int) -> list[tuple[int, bytes, int]]:
    """Type, value and the offset of the value, of each TLV up to the header's end."""
    found = []
    while at < len(header):
        value_at = at + 3
        if value_at > len(header):
            raise _refused("bad_tlv", f"{len(header) - at} bytes left where a TLV needs three")
        length = int.from_bytes(header[at + 1 : value_at], "big")
        if value_at + length > len(header):
            raise _refused("bad_tlv", f"type 0x{header[at]:02x} is longer than the header")
        found.append((header[at], header[value_at : value_at + length], value_at))
        at = value_at + length
    return found


def _vpce_id(tlvs: list[tuple[int, bytes, int]]) -> tuple[str | None, bool]:
    # An AWS TLV of another subtype is of no concern here: it may carry anything, one day.
    values = [value for kind, value, _ in tlvs if kind == TLV_AWS and value[:1] in (b"", bytes((AWS_VPCE_ID,)))]
    if not values:
        return None, False
    if len(values) > 1 or _VPCE_ID.fullmatch(values[0][1:]) is None:
        return None, True
    return values[0][1:].decode("ascii"), False


def _crc32c_valid(header: bytes, tlvs: list[tuple[int, bytes, int]]) -> bool | None:
    sums = [(value, at) for kind, value, at in tlvs if kind == TLV_CRC32C]
    if not sums:
        return None
    value, at = sums[0]
    if len(sums) > 1 or len(value) != 4:
        return False
    return crc32c(header[:at] + bytes(4) + header[at + 4 :]) == int.from_bytes(value, "big")


def _needed_v1(line: bytes) -> int:
    """What the line still takes at least: the shortest texts of the fields to come, and the CRLF."""
    end = line.find(b"\r\n")
    if b"\n" in (line if end < 0 else line[:end]) or b"\r" in (line[:-1] if end < 0 else line[:end]):
        raise _refused("bad_line", "a CR or LF that does not end the line")
    if end >= 0:
        return 0
    least = 1 if line.endswith(b"\r") else max(2, _SHORTEST - len(line))
    fields = line.split(b" ")
    shortest = _V1_SHORTEST.get(fields[1]) if len(fields) > 2 else None
    if shortest is not None and least > 1:
        last = len(fields) - 1
        if last >= len(shortest):
            raise _refused("bad_line", "more than six fields")
        to_come = max(0, shortest[last] - len(fields[last])) + sum(1 + size for size in shortest[last + 1 :])
        least = max(least, to_come + 2)
    if len(line) + least > LONGEST_V1:
        raise _refused("too_large", f"a line has at most {LONGEST_V1} bytes")
    return least


def _decode_v1(line: bytes) -> ProxyHeader:
    if _needed_v1(line):
        raise _refused("incomplete", f"{len(line)} bytes of a line without its CRLF")
    size = line.index(b"\r\n") + 2
    fields = line[: size - 2].split(b" ")
    if fields[1] == b"UNKNOWN":
        # §2.1: whatever follows is ignored and the connection's own addresses count, which is what LOCAL means.
        return ProxyHeader(version=1, command="LOCAL", family="unspec", transport="unspec", size=size)
    family = _V1_FAMILIES.get(fields[1])
    if family is None:
        raise _refused("bad_family", "neither TCP4, TCP6 nor UNKNOWN")
    if len(fields) != 6:
        raise _refused("bad_line", f"{len(fields)} fields in place of six")
    source_port, destination_port = _v1_port(fields[4]), _v1_port(fields[5])
    return ProxyHeader(
        version=1,
        command="PROXY",
        family=family,
        transport="stream",
        source=_v1_address(fields[2], family),
        source_port=source_port,
        destination=_v1_address(fields[3], family),
        destination_port=destination_port,
        size=size,
    )


def _v1_port(text: bytes) -> int:
    if _V1_PORT.fullmatch(text) is None or int(text) > 65535:
        raise _refused("bad_port", "a port is 0 to 65535 without leading zeros")
    return int(text)


def _v1_address(text: bytes, family: str) -> str:
    if (_V1_DOTTED if family == "inet" else _V1_COLONED).fullmatch(text) is not None:
        try:
            return canonical_address(text.decode("ascii"))
        except ValueError:
            pass
    raise _refused("bad_address", f"no address of family `{family}`")


def encode(
    *,
    source: tuple[str, int] | None = None,
    destination: tuple[str, int] | None = None,
    transport: str = "stream",
    tlvs: tuple[tuple[int, bytes], ...] = (),
    vpce_id: str | None = None,
    checksum: bool = False,
) -> bytes:
    """A version 2 header in a Network Load Balancer's order: checksum, endpoint id, further TLVs.

    Without both addresses it is a LOCAL one. An IPv4 address beside an IPv6 one is written IPv4-mapped.
    """
    command, family, block = "LOCAL", "unspec", b""
    if source is not None and destination is not None:
        command, family, block = "PROXY", *_address_block(source, destination)
    all_tlvs = list(tlvs)
    if vpce_id is not None:
        all_tlvs.insert(0, (TLV_AWS, bytes((AWS_VPCE_ID,)) + vpce_id.encode("ascii")))
    if checksum:
        all_tlvs.insert(0, (TLV_CRC32C, bytes(4)))
    sum_at = _FIXED + len(block) + 3
    block += b"".join(bytes((kind,)) + len(value).to_bytes(2, "big") + value for kind, value in all_tlvs)
    carried = _TRANSPORTS.index(transport if family != "unspec" else "unspec")
    kinds = bytes((0x20 | _COMMANDS.index(command), _FAMILIES.index(family) << 4 | carried))
    header = SIGNATURE + kinds + len(block).to_bytes(2, "big") + block
    if checksum:
        header = header[:sum_at] + crc32c(header).to_bytes(4, "big") + header[sum_at + 4 :]
    return header


def _address_block(source: tuple[str, int], destination: tuple[str, int]) -> tuple[str, bytes]:
    ends = (ip_address(source[0]), ip_address(destination[0]))
    ports = source[1].to_bytes(2, "big") + destination[1].to_bytes(2, "big")
    if all(isinstance(end, IPv4Address) for end in ends):
        return "inet", b"".join(end.packed for end in ends) + ports
    return "inet6", b"".join(_as_ipv6(end) for end in ends) + ports


def _as_ipv6(address: IPv4Address | IPv6Address) -> bytes:
    return address.packed if isinstance(address, IPv6Address) else bytes(10) + b"\xff\xff" + address.packed


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC32C_TABLE: Final = _crc32c_table()


def crc32c(data: bytes) -> int:
    """The CRC-32C (Castagnoli) checksum. Source: RFC 3720 §12.1, examples in its appendix B.4."""
    table, value = _CRC32C_TABLE, 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ table[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF
