"""The PROXY header codec: its reading discipline, its limits and its three properties."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ztproxy.errors import ProtocolError
from ztproxy.wire.proxyproto import (
    LONGEST_V1,
    LONGEST_V2,
    SIGNATURE,
    TLV_AWS,
    TLV_CRC32C,
    TLV_NOOP,
    ProxyHeader,
    canonical_address,
    crc32c,
    decode,
    encode,
    needed,
)

VPCE = "vpce-0123456789abcdef0"
V1 = b"PROXY TCP4 10.1.2.3 10.9.8.7 40000 443\r\n"

ports = st.integers(0, 65535)
ends = st.one_of(
    st.tuples(st.tuples(st.ip_addresses(v=4), ports), st.tuples(st.ip_addresses(v=4), ports)),
    st.tuples(st.tuples(st.ip_addresses(v=6), ports), st.tuples(st.ip_addresses(v=6), ports)),
)
other_tlvs = st.lists(
    st.tuples(st.sampled_from([0x01, 0x02, TLV_NOOP, 0x05, 0x20, 0x30, 0xEE]), st.binary(max_size=80)), max_size=4
).map(tuple)
vpce_ids = st.none() | st.from_regex(r"vpce-[0-9a-f]{8,17}", fullmatch=True)
garbage = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=200).map(lambda tail: SIGNATURE + tail),
    st.binary(max_size=120).map(lambda tail: SIGNATURE + b"\x21\x11\x00\x20" + tail),
    st.text(alphabet="TCP46UNKOW .:0123456789af\r\n", max_size=120).map(lambda tail: b"PROXY " + tail.encode()),
)


def reason(data: bytes) -> str:
    with pytest.raises(ProtocolError) as caught:
        decode(data)
    assert caught.value.code == "protocol.proxy-header"
    assert caught.value.public == "the PROXY header was refused"
    return caught.value.detail.partition(":")[0]


def read_exactly(stream: bytes) -> tuple[ProxyHeader, int]:
    """What a listener does: read as many bytes as `needed` says until it says none; the header and the reads."""
    taken, reads = bytearray(), 0
    while count := needed(taken):
        piece = stream[len(taken) : len(taken) + count]
        assert len(piece) == count, "asked for bytes behind the header"
        taken += piece
        reads += 1
    header = decode(taken)
    assert header.size == len(taken)
    return header, reads


@given(ends, st.sampled_from(["stream", "dgram", "unspec"]), other_tlvs, vpce_ids, st.booleans())
@settings(max_examples=150, deadline=None)
def test_what_is_encoded_is_decoded(ends, transport, tlvs, vpce_id, checksum) -> None:  # type: ignore[no-untyped-def]
    (source, source_port), (destination, destination_port) = ends
    data = encode(
        source=(str(source), source_port),
        destination=(str(destination), destination_port),
        transport=transport,
        tlvs=tlvs,
        vpce_id=vpce_id,
        checksum=checksum,
    )
    header = decode(data + b"\x16\x03\x01")
    own = header.tlvs[: int(checksum) + int(vpce_id is not None)]
    assert [kind for kind, _ in own] == [TLV_CRC32C] * checksum + [TLV_AWS] * (vpce_id is not None)
    assert header == ProxyHeader(
        version=2,
        command="PROXY",
        family="inet" if source.version == 4 else "inet6",
        transport=transport,
        source=canonical_address(str(source)),
        source_port=source_port,
        destination=canonical_address(str(destination)),
        destination_port=destination_port,
        tlvs=own + tlvs,
        vpce_id=vpce_id,
        crc32c_valid=True if checksum else None,
        size=len(data),
    )
    assert read_exactly(data) == (header, 3)


@given(garbage)
@example(b"")
@example(b"P")
@example(V1)
@example(b"PROXY TCP4 ")
@example(b"PROXY UNKNOWN\r")
@settings(max_examples=200, deadline=None)
def test_garbage_is_a_header_or_needs_more_or_is_refused(data: bytes) -> None:
    try:
        more = needed(data)
        header = decode(data)
    except ProtocolError:
        return
    assert more == 0
    assert 0 < header.size <= len(data)


@given(garbage)
@settings(max_examples=150, deadline=None)
def test_byte_by_byte_is_the_same_as_all_at_once(data: bytes) -> None:
    def outcome(data: bytes) -> ProxyHeader | str:
        try:
            return decode(data)
        except ProtocolError as error:
            return error.detail.partition(":")[0]

    taken, seen = bytearray(), "incomplete"
    for byte in data:
        taken.append(byte)
        try:
            if needed(taken) == 0:
                assert outcome(bytes(taken)) == outcome(data)
                return
        except ProtocolError as error:
            seen = error.detail.partition(":")[0]
            break
    if seen not in ("incomplete", "too_large"):
        assert outcome(data) in (seen, "incomplete")


@pytest.mark.parametrize(
    ("stream", "most_reads"),
    [
        (b"PROXY UNKNOWN\r\n", 1),
        (V1, 6),
        (b"PROXY TCP6 :: :: 0 0\r\n", 3),
        (b"PROXY TCP6 " + b" ".join([b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] * 2) + b" 65535 65535\r\n", 24),
        (b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n", 47),
        (encode(), 2),
        (encode(source=("::1", 1), destination=("::2", 2), vpce_id=VPCE, checksum=True), 3),
    ],
)
def test_reading_by_need_ends_on_the_last_byte_of_the_header(stream: bytes, most_reads: int) -> None:
    header, reads = read_exactly(stream + b"\x16\x03\x01\x00\xc8" * 30)
    assert header.size == len(stream)
    assert reads <= most_reads


@given(st.binary(min_size=1, max_size=90))
@settings(max_examples=100, deadline=None)
def test_need_never_reaches_behind_a_v1_line(tail: bytes) -> None:
    line = b"PROXY UNKNOWN " + tail.replace(b"\r", b"").replace(b"\n", b"") + b"\r\n"
    assert read_exactly(line + b"\x16")[0].family == "unspec"


def test_a_broken_start_is_refused_before_more_is_read() -> None:
    for start in (b"\x16\x03\x01", b"GET ", b"PROXX", b"PROXY\x00", SIGNATURE[:-1] + b"\r", b"\r\n\r\n\x01"):
        with pytest.raises(ProtocolError) as caught:
            needed(start)
        assert caught.value.detail.startswith("no_signature: ")
    for fixed, name in ((b"\x11\x11", "bad_version"), (b"\x2f\x11", "bad_command"), (b"\x21\xf1", "bad_family")):
        with pytest.raises(ProtocolError) as caught:
            needed(SIGNATURE + fixed + b"\x00\x0c")
        assert caught.value.detail.startswith(name)


def test_a_v1_line_that_cannot_end_in_time_is_refused_before_more_is_read() -> None:
    for start, name in (
        (b"PROXY UNKNOWN " + b"f" * (LONGEST_V1 - 15), "too_large"),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 ", "bad_line"),
        (b"PROXY TCP4 1.1.1.1\n", "bad_line"),
        (b"PROXY TCP4 1.1.1.1\rx", "bad_line"),
    ):
        with pytest.raises(ProtocolError) as caught:
            needed(start)
        assert caught.value.detail.startswith(name)


def test_more_than_four_kib_of_tlvs_is_neither_read_nor_decoded() -> None:
    most = encode(source=("::1", 1), destination=("::2", 2), tlvs=((TLV_NOOP, bytes(LONGEST_V2 - 16 - 36 - 3)),))
    assert decode(most).size == LONGEST_V2
    assert needed(most[:16]) == LONGEST_V2 - 16
    over = encode(source=("::1", 1), destination=("::2", 2), tlvs=((TLV_NOOP, bytes(LONGEST_V2 - 16 - 36 - 2)),))
    assert reason(over) == "too_large"
    with pytest.raises(ProtocolError) as caught:
        needed(over[:16])
    assert caught.value.detail.startswith("too_large: ")


def test_local_headers_carry_no_addresses() -> None:
    header = decode(encode(checksum=True))
    assert (header.command, header.family, header.source, header.crc32c_valid) == ("LOCAL", "unspec", None, True)
    with_block = bytearray(encode(source=("10.1.2.3", 1), destination=("10.1.2.4", 2)))
    with_block[12] = 0x20
    assert decode(with_block) == replace(header, family="inet", transport="stream", tlvs=(), crc32c_valid=None, size=28)
    too_short = SIGNATURE + b"\x20\x11\x00\x02\xaa\xbb"
    assert decode(too_short).tlvs == ()


def test_unix_addresses_are_not_read() -> None:
    header = decode(SIGNATURE + b"\x21\x31\x00\xd8" + b"/run/a".ljust(108, b"\0") * 2)
    assert (header.family, header.source, header.destination, header.size) == ("unix", None, None, 232)


def test_the_checksum_covers_the_whole_header_and_nothing_else() -> None:
    data = encode(source=("10.1.2.3", 1), destination=("10.1.2.4", 2), vpce_id=VPCE, checksum=True)
    sum_at = 16 + 12 + 3
    for at in range(16, len(data)):
        if at in range(sum_at - 3, sum_at) or at in range(len(data) - 26, len(data) - 23):
            continue  # the types and lengths of the two TLVs: other refusals
        altered = bytearray(data)
        altered[at] ^= 0x10
        assert decode(altered).crc32c_valid is False
    assert decode(data + b"anything").crc32c_valid is True


def test_a_checksum_of_another_length_or_a_second_one_is_wrong() -> None:
    for tlvs in (((TLV_CRC32C, b"abc"),), ((TLV_CRC32C, bytes(4)),)):
        header = decode(encode(source=("10.1.2.3", 1), destination=("10.1.2.4", 2), tlvs=tlvs))
        assert header.crc32c_valid is False
    both = encode(source=("10.1.2.3", 1), destination=("10.1.2.4", 2), tlvs=((TLV_CRC32C, bytes(4)),), checksum=True)
    assert decode(both).crc32c_valid is False


@pytest.mark.parametrize(
    ("tlvs", "malformed"),
    [
        (((TLV_AWS, b""),), True),
        (((TLV_AWS, b"\x01vpce-xyz"),), True),
        (((TLV_AWS, b"\x01" + VPCE.encode() + b"\n"),), True),
        (((TLV_AWS, b"\x01" + VPCE.encode()),) * 2, True),
        (((TLV_AWS, b"\x02" + VPCE.encode()),), False),
    ],
)
def test_only_one_well_formed_endpoint_id_counts(tlvs: tuple[tuple[int, bytes], ...], malformed: bool) -> None:
    header = decode(encode(source=("10.1.2.3", 1), destination=("10.1.2.4", 2), tlvs=tlvs))
    assert header.vpce_id is None
    assert header.aws_tlv_malformed is malformed


def test_an_ipv4_end_beside_an_ipv6_one_is_written_mapped() -> None:
    data = encode(source=("10.1.2.3", 1), destination=("2001:db8::1", 2))
    header = decode(data)
    assert (header.family, header.source, header.destination) == ("inet6", "10.1.2.3", "2001:db8::1")


def test_refusals_of_version_2() -> None:
    good = encode(source=("10.1.2.3", 1), destination=("10.1.2.4", 2))
    assert reason(good[:15]) == "incomplete"
    assert reason(good[:-1]) == "incomplete"
    assert reason(good[:13] + b"\x17" + good[14:]) == "bad_transport"
    assert reason(good[:13] + b"\x21" + good[14:]) == "address_block_too_short"
    assert reason(good[:15] + b"\x0d" + good[16:] + b"\x04") == "bad_tlv"
    assert reason(good[:15] + b"\x0f" + good[16:] + b"\x04\x00\x01") == "bad_tlv"


def test_refusals_of_version_1() -> None:
    assert reason(V1[:-1]) == "incomplete"
    assert reason(V1.replace(b"TCP4", b"TCP9")) == "bad_family"
    assert reason(V1.replace(b" 443", b"")) == "bad_line"
    assert reason(V1.replace(b"443", b"+443")) == "bad_port"
    assert reason(V1.replace(b"443", b"65536")) == "bad_port"
    assert reason(V1.replace(b"10.1.2.3", b"10.1.2")) == "bad_address"
    assert reason(V1.replace(b"10.1.2.3", b"10.1.2.256")) == "bad_address"
    assert decode(V1).source_port == 40000


def test_the_text_of_an_address_is_canonical() -> None:
    assert canonical_address("2001:DB8:0:0:0:0:0:1") == "2001:db8::1"
    assert canonical_address("::ffff:10.1.2.3") == "10.1.2.3"
    assert canonical_address(ip_address("10.1.2.3").packed) == "10.1.2.3"
    for text in ("fe80::1%eth0", "10.1.2.300", "010.1.2.3", "localhost", ""):
        with pytest.raises(ValueError, match=r".+"):
            canonical_address(text)


def test_crc32c_matches_the_examples_of_rfc_3720() -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"") == 0
