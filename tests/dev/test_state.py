"""The state folder: one holder at a time, and a note that is believed only while it has a holder."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ztproxy.dev.state import (
    AccessKey,
    DemoError,
    DemoNote,
    NotRunning,
    StateFolder,
    default_folder,
    note_from_json,
    note_to_json,
)
from ztproxy.types import Secret

NOTE = DemoNote(
    url="https://localhost:8443",
    ca=Path("/demo/tls/edge-ca.pem"),
    token_url="http://127.0.0.1:9/token",
    client_id="ztproxy-demo",
    client_secret=Secret(b"client-secret"),
    audience="api://orders",
    people={"bob": (Path("/demo/bob.pem"), Path("/demo/bob.key"))},
    access_keys={"ci": AccessKey(id="AK", secret=Secret(b"key-secret"), region="eu-west-1", service="execute-api")},
)


def test_the_default_folder_follows_xdg() -> None:
    home = Path.home() / ".local" / "state" / "ztproxy" / "demo"
    assert default_folder({"XDG_STATE_HOME": "/var/me"}) == Path("/var/me/ztproxy/demo")
    assert default_folder({}) == default_folder({"XDG_STATE_HOME": ""}) == home
    assert default_folder({"XDG_STATE_HOME": "relative"}) == home


def test_a_note_survives_its_file() -> None:
    text = note_to_json(NOTE)
    again = note_from_json(text)
    assert note_to_json(again) == text
    assert (again.client_secret.reveal(), again.access_keys["ci"].secret.reveal()) == (b"client-secret", b"key-secret")
    assert again.people == NOTE.people


def test_a_note_does_not_show_its_secrets() -> None:
    assert "secret" not in repr(NOTE).replace("client_secret", "").replace("secret=<secret>", "").replace(
        "<secret>", ""
    )


def test_holding_makes_the_folder_private(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "a" / "demo")
    assert not folder.is_held()
    with folder.held():
        assert folder.is_held()
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert not folder.is_held()


def test_a_second_holder_is_refused_and_takes_nothing_away(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    with folder.held():
        folder.note.write_bytes(note_to_json(NOTE))
        with pytest.raises(DemoError, match="already running"), StateFolder(tmp_path).held():
            raise AssertionError("it was held twice")
        assert folder.read_note().url == NOTE.url


def test_the_note_goes_with_its_holder_also_on_failure(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)

    def fail() -> None:
        with folder.held():
            folder.note.write_bytes(note_to_json(NOTE))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not folder.note.exists()
    assert not folder.is_held()


def test_a_note_left_by_a_killed_holder_is_not_believed(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from ztproxy.dev.state import StateFolder\n"
        "folder = StateFolder(Path(sys.argv[1]))\n"
        "with folder.held():\n"
        "    folder.note.write_text('{}')\n"
        "    os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=30)
    folder = StateFolder(tmp_path)
    assert folder.note.exists()
    with pytest.raises(NotRunning, match="no demo is running in"):
        folder.read_note()
    with folder.held():
        assert not folder.note.exists()


def test_without_a_folder_or_before_it_is_ready_nothing_runs(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="start one with `ztproxy demo`"):
        StateFolder(tmp_path / "absent").read_note()
    folder = StateFolder(tmp_path)
    with folder.held(), pytest.raises(NotRunning):
        folder.read_note()


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b"null", b'{"url": 1}', b"\xff", b'{"people": 3}', b'{"client_secret": 1}']
)
def test_a_note_that_is_none_is_one_clear_error(tmp_path: Path, text: bytes) -> None:
    folder = StateFolder(tmp_path)
    with folder.held():
        folder.note.write_bytes(text)
        with pytest.raises(DemoError, match="cannot be read; start the demo again"):
            folder.read_note()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DemoError, match="cannot be used"), StateFolder(tmp_path / "file" / "demo").held():
        raise AssertionError("it was held")


def test_places_in_the_folder(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    places = {folder.config, folder.policies, folder.tls, folder.keys, folder.spool, folder.log, folder.note}
    assert {place.parent for place in places} == {tmp_path}
    assert len(places) == 7
