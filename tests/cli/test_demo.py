"""`ztproxy demo` as people meet it: the real proxy behind it, its words, its exit codes, Ctrl-C."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from ztproxy.cli.demo import command, program_name, try_lines
from ztproxy.dev.state import StateFolder

TOUR = (
    "dev CA and certificates",
    "dev identity provider   users: ada (admin), bob (dev), eve (contractor)",
    'sample API "orders"',
    "proxy https://localhost:",
    "bob gets /orders/42",
    "bob may not delete /orders/42, and learns why",
    "a token with groups added after signing",
    "a caller without a certificate",
    "a request signed by botocore (SigV4)",
    "the same signature on another path",
    "the proxy stops when asked",
    "the audit chain verifies",
    "both decisions stand in the record",
)


def demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ztproxy", "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, **environment},
    )


def only_child(pid: int) -> int:
    """The one process started by this one; field 4 of `stat` is the parent, behind the name in parentheses."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    (only,) = found
    return only


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(state: Path, port: int) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A demo that is up, and what it printed until then."""
    child = subprocess.Popen(
        [sys.executable, "-m", "ztproxy", "demo", "--state", str(state), "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert child.stdout is not None
        lines: list[str] = []
        while not lines or "Ctrl-C" not in lines[-1]:
            line = child.stdout.readline()
            assert line, "".join(lines)
            lines.append(line)
        yield child, lines
    finally:
        if child.poll() is None:
            child.terminate()
        child.communicate(timeout=30)


def test_the_tour_passes_in_time_and_leaves_nothing_behind(tmp_path: Path) -> None:
    began = time.monotonic()
    result = demo("--check", TMPDIR=str(tmp_path))
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    assert time.monotonic() - began < 10
    lines = result.stdout.splitlines()
    assert [line for line, part in zip(lines, TOUR, strict=False) if not line.startswith(f" ok  {part}")] == []
    assert lines[len(TOUR) :] == ["the tour passed"]
    assert list(tmp_path.iterdir()) == []


def test_the_tour_passes_twice_in_one_folder_and_keeps_it(tmp_path: Path) -> None:
    for _ in range(2):
        result = demo("--check", "--state", str(tmp_path))
        assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "proxy.yaml").is_file()
    assert list((tmp_path / "audit").glob("*.jsonl"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    port = free_port()
    with running(tmp_path, port) as (child, lines):
        assert f" ok  proxy https://localhost:{port}\n" in lines
        checked = demo("--check")
        child.send_signal(number)
        output, _ = child.communicate(timeout=30)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert child.returncode == 0, output
    assert output.endswith("stopped; start again with the same command, the records are kept\n")
    assert not StateFolder(tmp_path).is_held()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_what_it_says_to_try_comes_out_as_it_says(tmp_path: Path) -> None:
    with running(tmp_path, free_port()) as (_, lines):
        tries = [line.removeprefix("Try:").strip() for line in lines if " curl --state " in line]
        seen = []
        for line in tries:
            shell_words, _, outcome = line.partition("   ")
            arguments = shell_words.partition(" curl ")[2].split()
            result = subprocess.run(
                [sys.executable, "-m", "ztproxy", "curl", *arguments],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            seen.append((outcome.strip().partition(":")[0].partition(",")[0].partition(" ")[0], result.stderr))
    assert seen == [
        ("allowed", "HTTP 200\n"),
        ("denied", "HTTP 403\n"),
        ("allowed", "HTTP 200\n"),
        ("denied", "HTTP 403\n"),
        ("denied", "HTTP 403\n"),
        ("allowed", "HTTP 200\n"),
    ]


def test_a_proxy_that_dies_ends_the_demo_with_its_last_words(tmp_path: Path) -> None:
    with running(tmp_path, free_port()) as (child, _):
        os.kill(only_child(child.pid), signal.SIGKILL)
        output, _ = child.communicate(timeout=30)
    assert child.returncode == 1
    assert "FAILED  the proxy ended with status -9" in output


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = demo("--state", str(tmp_path), "--port", str(port))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"FAILED  port {port} cannot be had (Address already in use); choose another with --port\n"


def test_a_failed_check_keeps_its_folder(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = demo("--check", "--port", str(taken.getsockname()[1]), TMPDIR=str(tmp_path))
    (kept,) = tmp_path.iterdir()
    assert result.returncode == 1
    assert f"the folder is kept for a look: {kept}" in result.stderr


def test_a_port_that_is_none_is_a_usage_error() -> None:
    assert CliRunner().invoke(command, ["--port", "0"]).exit_code == 2


def test_what_to_try_is_told_with_the_folder_where_it_is_needed(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    assert "curl /orders/42 " in try_lines(None, folder)
    assert "curl --state 'my demo; id' /orders/42 " in try_lines(Path("my demo; id"), folder)


def test_the_program_is_named_so_that_typing_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "ztproxy"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", "")
    assert program_name(str(program)) == str(program)
    assert program_name(".venv/my bin/ztproxy") == "'.venv/my bin/ztproxy'"
    assert program_name("/lib/ztproxy/__main__.py").endswith(" -m ztproxy")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("ztproxy") == str(program)
    assert program_name(str(program)) == "ztproxy"
    assert program_name("/elsewhere/ztproxy") == "/elsewhere/ztproxy"
