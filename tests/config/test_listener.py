"""Every field of a listener wrong, one at a time: one problem, at its place, in these words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.sample import WHOLE, broken, loaded, problems

WRONG = [
    # what stands in the sample, what takes its place (§: where the problem is), what is said of it
    (
        "name: edge",
        "name: §-edge",
        (
            "listeners.0.name: must be 1 to 64 letters, digits, `.`, `_` or `-`, beginning with a letter or "
            "digit (got `-edge`)"
        ),
    ),
    ("name: edge", "name: §5", "listeners.0.name: must be text; put it in quotes (got 5)"),
    (
        "bind: 127.0.0.1:8443",
        "bind: §localhost:8443",
        (
            "listeners.0.bind: must be an IP address and a port, such as `127.0.0.1:8443` or `[::1]:8443` (got "
            "`localhost:8443`)"
        ),
    ),
    (
        "bind: 127.0.0.1:8443",
        "bind: §127.0.0.1",
        (
            "listeners.0.bind: must be an IP address and a port, such as `127.0.0.1:8443` or `[::1]:8443` (got "
            "`127.0.0.1`)"
        ),
    ),
    (
        "bind: 127.0.0.1:8443",
        "bind: §127.0.0.1:65536",
        (
            "listeners.0.bind: must be an IP address and a port, such as `127.0.0.1:8443` or `[::1]:8443` (got "
            "`127.0.0.1:65536`)"
        ),
    ),
    (
        "bind: 127.0.0.1:8443",
        "bind: §'::1:8443'",
        (
            "listeners.0.bind: must be an IP address and a port, such as `127.0.0.1:8443` or `[::1]:8443` (got "
            "`::1:8443`)"
        ),
    ),
    (
        "bind: 127.0.0.1:8443",
        "bind: §'[127.0.0.1]:8443'",
        (
            "listeners.0.bind: must be an IP address and a port, such as `127.0.0.1:8443` or `[::1]:8443` (got "
            "`[127.0.0.1]:8443`)"
        ),
    ),
    ("bind: 127.0.0.1:8443", "bind: §8443", "listeners.0.bind: must be text; put it in quotes (got 8443)"),
    (
        "bind: 127.0.0.1:8443",
        "bind: §12:30",
        ("listeners.0.bind: YAML readers disagree on this number; put text in quotes, write numbers in plain digits"),
    ),
    (
        "protocol: http\n",
        "protocol: §postgres\n",
        "listeners.0.protocol: is not supported by this version yet; write `http` (got `postgres`)",
    ),
    ("protocol: http\n", "protocol: §https\n", "listeners.0.protocol: must be `http` (got `https`)"),
    (
        "    protocol: http\n",
        "    §protocols: http\n    protocol: http\n",
        "listeners.0.protocols: unknown key; did you mean `protocol`?",
    ),
    (
        "mode: required,",
        "mode: §maybe,",
        "listeners.0.proxy_protocol.mode: must be one of `required`, `off` (got `maybe`)",
    ),
    ("mode: required,", "mode: §true,", "listeners.0.proxy_protocol.mode: must be one of `required`, `off` (got true)"),
    (
        "[10.0.0.0/16]",
        "[§10.0.0.1/16]",
        (
            "listeners.0.proxy_protocol.trusted.0: has bits set behind its length; write `10.0.0.0/16` (got "
            "`10.0.0.1/16`)"
        ),
    ),
    (
        "[10.0.0.0/16]",
        "[§partners]",
        "listeners.0.proxy_protocol.trusted.0: must be a network, such as `10.0.0.0/16` (got `partners`)",
    ),
    (
        "[10.0.0.0/16]",
        "[§'::ffff:10.0.0.0/112']",
        "listeners.0.proxy_protocol.trusted.0: must be written as an IPv4 network (got `::ffff:10.0.0.0/112`)",
    ),
    ("[10.0.0.0/16]", "§[10.0.0.0/16, 10.0.0.0/16]", "listeners.0.proxy_protocol.trusted: holds `10.0.0.0/16` twice"),
    ("[10.0.0.0/16]", "§10.0.0.0/16", "listeners.0.proxy_protocol.trusted: must be a list (got text)"),
    (
        "      certificate: file:tls/edge.pem",
        "      certificate: §tls/edge.pem",
        "listeners.0.tls.certificate: must be a reference to a file, `file:<path>`",
    ),
    (
        "      key: file:tls/edge.key",
        "      key: §env:EDGE_KEY",
        "listeners.0.tls.key: must be a file here, `file:<path>`",
    ),
    (
        "      key: file:tls/edge.key",
        "      key: §kms:alias/edge",
        "listeners.0.tls.key: `kms:` references arrive with a later version; use `file:`",
    ),
    ("names: [admin.example.com]", "names: §[]", "listeners.0.tls.more.0.names: must not be empty"),
    (
        "names: [admin.example.com]",
        "names: [§'*']",
        "listeners.0.tls.more.0.names.0: must be a host name, or `*.` and one (got `*`)",
    ),
    ('minimum: "1.2"', "minimum: §1.3", "listeners.0.tls.minimum: must be one of `1.2`, `1.3`, in quotes (got 1.3)"),
    ('minimum: "1.2"', 'minimum: §"1.1"', "listeners.0.tls.minimum: must be one of `1.2`, `1.3` (got `1.1`)"),
    (
        "mode: optional",
        "mode: §sometimes",
        "listeners.0.tls.client_certificates.mode: must be one of `required`, `optional`, `off` (got `sometimes`)",
    ),
    (
        "{name: staff,",
        "{§crl: file:tls/staff.crl, name: staff,",
        "listeners.0.tls.client_certificates.authorities.0.crl: not supported by this version yet",
    ),
    (
        "{name: staff,",
        "{name: §'',",
        (
            "listeners.0.tls.client_certificates.authorities.0.name: must be 1 to 64 letters, digits, `.`, `_` "
            "or `-`, beginning with a letter or digit (got ``)"
        ),
    ),
    (
        "ca: file:tls/staff-ca.pem, spiffe: prod.example.com}]",
        "§kind: x, ca: file:tls/staff-ca.pem}]",
        "listeners.0.tls.client_certificates.authorities.0.kind: unknown key; known here: `name`, `ca`, `spiffe`",
    ),
    (
        "spiffe: prod.example.com",
        "spiffe: §spiffe://prod.example.com",
        (
            "listeners.0.tls.client_certificates.authorities.0.spiffe: must be a trust domain, such as "
            "`prod.example.com`, without `spiffe://` (got `spiffe://prod.example.com`)"
        ),
    ),
    ("pre_auth_s: 10", "pre_auth_s: §0", "listeners.0.timeouts.pre_auth_s: must be more than 0 (got 0)"),
    ("pre_auth_s: 10", "pre_auth_s: §600", "listeners.0.timeouts.pre_auth_s: must be at most 120 (got 600)"),
    ("pre_auth_s: 10", "pre_auth_s: §10s", "listeners.0.timeouts.pre_auth_s: must be a number (got `10s`)"),
    ("idle_s: 60", "idle_s: §yes", "listeners.0.timeouts.idle_s: must be a number (got `yes`)"),
    (
        "idle_s: 60",
        "idle_s: §1e3",
        (
            "listeners.0.timeouts.idle_s: YAML readers disagree on this number; put text in quotes, write "
            "numbers in plain digits"
        ),
    ),
    (
        "idle_s: 60",
        "idle_s: §.inf",
        (
            "listeners.0.timeouts.idle_s: YAML readers disagree on this number; put text in quotes, write "
            "numbers in plain digits"
        ),
    ),
    (
        "    timeouts: {pre_auth_s",
        "    §plaintext: off\n    timeouts: {pre_auth_s",
        "listeners.0.plaintext: not supported by this version yet",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG)
def test_wrong_field_gets_one_line(folder: Path, old: str, new: str, message: str) -> None:
    text, place = broken(old, new)
    assert problems(folder, text) == [f"{place}: {message}"]


@pytest.mark.parametrize(("mode", "asks"), [("required", True), ("optional", True)])
def test_listener_asks_for_certificates(folder: Path, mode: str, asks: bool) -> None:
    config = loaded(folder, WHOLE.replace("mode: optional", f"mode: {mode}"))
    assert config.listeners[0].asks_certificate is asks


def test_listener_asks_for_none_when_off_or_absent(folder: Path) -> None:
    head, _, rest = WHOLE.partition("      client_certificates:\n")
    rest = rest[rest.index("    timeouts: {pre_auth_s") :]
    rest = rest.replace("{all_of: [certificate], any_of: [corp, sigv4]}", "{any_of: [corp, sigv4]}")
    rest = rest.replace('spiffe: "spiffe://prod.example.com/billing", ', "")
    assert not loaded(folder, head + rest).listeners[0].asks_certificate
    off = head + "      client_certificates: {mode: off}\n" + rest
    assert not loaded(folder, off).listeners[0].asks_certificate


def test_defaults_are_the_documented_ones(folder: Path) -> None:
    text = WHOLE.replace("    timeouts: {pre_auth_s: 10, idle_s: 60}\n", "").replace('      minimum: "1.2"\n', "")
    text = text.replace("    proxy_protocol: {mode: required, trusted: [10.0.0.0/16]}\n", "")
    text = text.replace("        mode: optional\n", "")
    listener = loaded(folder, text).listeners[0]
    assert (listener.timeouts.pre_auth_s, listener.timeouts.idle_s) == (10, 60)
    assert (listener.proxy_protocol.mode, listener.tls.minimum) == ("off", "1.2")
    assert listener.tls.client_certificates is not None
    assert listener.tls.client_certificates.mode == "required"
