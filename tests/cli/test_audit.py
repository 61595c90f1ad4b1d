"""`ztproxy audit verify`: what it prints first and last, and how it exits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ztproxy.audit.seal import Sealer, genesis
from ztproxy.audit.spool import segment_name
from ztproxy.cli.audit import command, default_spool


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    sealer = Sealer(genesis("c1"))
    path = tmp_path / segment_name("c1", 1)
    path.write_bytes(b"".join(sealer.seal(b'{"n":%d}' % number) for number in range(60)))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, ["verify", *map(str, arguments)])


def test_an_intact_spool(segment: Path) -> None:
    result = run(segment.parent)
    lines = result.output.splitlines()
    assert result.exit_code == 0
    assert lines[0] == f"intact: 60 records in 1 segments of `{segment.parent}`"
    assert lines[1].startswith("chain c1: 60 records, last seq 60, head ")
    assert "removed from the very end" in lines[-2]
    assert lines[-1].startswith("next: compare")


def test_a_broken_spool_names_the_place(segment: Path) -> None:
    segment.write_bytes(segment.read_bytes().replace(b'{"n":30}', b'{"n":31}'))
    result = run(segment.parent)
    lines = result.output.splitlines()
    assert result.exit_code == 1
    assert lines[0].startswith("BROKEN: 1 faults in 59 records")
    assert f"{segment.name}:31: changed: record 31 is not what was sealed" in lines
    assert lines[-1].startswith("next: keep this directory as evidence")


def test_faults_beyond_the_list_are_counted(segment: Path) -> None:
    segment.write_bytes(segment.read_bytes().replace(b'{"n":', b'{"m":'))
    lines = run(segment.parent).output.splitlines()
    assert "in all: changed 60" in lines


def test_a_torn_tail_says_that_a_start_cures_it(segment: Path) -> None:
    segment.write_bytes(segment.read_bytes()[:-5])
    result = run(segment.parent)
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith("next: start the proxy")


@pytest.mark.parametrize("broken", [False, True])
def test_json(segment: Path, broken: bool) -> None:
    if broken:
        segment.write_bytes(segment.read_bytes().replace(b'{"n":30}', b'{"n":31}'))
    result = run(segment.parent, "-o", "json")
    document = json.loads(result.output)
    assert result.exit_code == int(broken)
    assert document["intact"] is not broken
    assert document["counts"] == ({"changed": 1} if broken else {})
    assert document["chains"][0]["last_seq"] == 60
    if broken:
        assert document["faults"][0] == {
            "kind": "changed",
            "line": 31,
            "message": "record 31 is not what was sealed",
            "segment": segment.name,
            "seq": 31,
        }


def test_nothing_to_verify_is_a_usage_error(tmp_path: Path) -> None:
    empty = run(tmp_path)
    assert (empty.exit_code, "no segment in" in empty.output) == (2, True)
    absent = run(tmp_path / "none")
    assert (absent.exit_code, "cannot read the spool" in absent.output) == (2, True)


def test_the_default_spool_follows_the_environment(segment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = segment.parent / "state" / "audit"
    spool.mkdir(parents=True)
    segment.rename(spool / segment.name)
    monkeypatch.setenv("STATE_DIRECTORY", f"{segment.parent / 'state'}:/other")
    assert run().exit_code == 0
    assert default_spool({"XDG_STATE_HOME": "/x"}) == Path("/x/ztproxy/audit")
    assert default_spool({}) == Path.home() / ".local" / "state" / "ztproxy" / "audit"
