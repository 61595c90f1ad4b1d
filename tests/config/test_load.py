"""From file to configuration: hostile files give lines, findings of all stages come together, secrets stay hidden."""

from __future__ import annotations

import json
import os
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from tests.config.sample import NOW, WHOLE, issue, loaded, problems
from ztproxy.config import load
from ztproxy.config.load import MAX_FILE_BYTES
from ztproxy.errors import ConfigError


def refused(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load(path)
    return [str(problem) for problem in error.value.problems]


def test_sample_loads_with_paths_from_its_own_folder(folder: Path) -> None:
    config = loaded(folder, WHOLE)
    assert config.listeners[0].tls.certificate.path == folder / "tls/edge.pem"
    assert config.routes[0].policy == folder / "policies/orders.yaml"
    assert config.audit.spool == folder / "spool"


def test_relative_name_of_the_file_is_kept_in_messages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded(folder, WHOLE)
    monkeypatch.chdir(folder)
    config = load(Path("config.yaml"), now=NOW)
    assert config.file == "config.yaml"
    assert config.routes[0].policy == folder / "policies/orders.yaml"


def test_json_and_a_byte_order_mark_are_accepted(folder: Path) -> None:
    path = folder / "config.json"
    text = json.dumps(yaml.safe_load(WHOLE), indent="\t")
    path.write_text(text, encoding="utf-8-sig")
    assert load(path, now=NOW).routes == loaded(folder, WHOLE).routes


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "1:1: the file is empty"),
        (b"- a\n- b\n", "1:1: must be a mapping (got a list)"),
        (b"just words\n", "1:1: must be a mapping (got text)"),
        (b"a: 1\nb: \xff\n", "2:4: is not UTF-8 text"),
        ("version: 1".encode("utf-16"), "1:1: is not UTF-8 text"),
        (b"\x7fELF\x02\x01\x01\x00", "1:1: holds a character that YAML does not allow"),
        (b"[" * 50_000, "1:34: nested more than 32 levels deep"),
    ],
)
def test_hostile_content_gives_a_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    assert refused(path) == [f"{path}:{said}"]


def test_what_is_not_a_readable_file_is_said(tmp_path: Path) -> None:
    absent, fifo, large = tmp_path / "absent.yaml", tmp_path / "fifo", tmp_path / "large.yaml"
    os.mkfifo(fifo)
    large.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    assert refused(absent) == [f"{absent}:1:1: `{absent}` cannot be read: no such file or directory"]
    assert refused(tmp_path) == [f"{tmp_path}:1:1: `{tmp_path}` is not a regular file"]
    assert refused(fifo) == [f"{fifo}:1:1: `{fifo}` is not a regular file"]
    assert refused(large) == [f"{large}:1:1: `{large}` is larger than {MAX_FILE_BYTES} bytes"]


def test_findings_in_the_writing_and_in_the_meaning_come_together(folder: Path) -> None:
    text = WHOLE.replace("version: 1", "version: 2").replace("leeway_s: 60", "leeway_s: 060")
    text = text.replace("path: /orders/**", "path: &p /orders/**")
    assert problems(folder, text) == [
        "1:10: version: must be `1`, the only version of this format (got 2)",
        "25:15: issuers.0.leeway_s: YAML readers disagree on this number; put text in quotes, "
        "write numbers in plain digits",
        "42:11: routes.0.path: anchors are not supported; write the value out where it is used",
    ]


def test_writing_alone_is_enough_to_refuse(folder: Path) -> None:
    assert problems(folder, WHOLE.replace("path: /orders/**", "path: !!str /orders/**")) == [
        "42:11: routes.0.path: tags are not supported"
    ]


def test_cross_checks_run_at_the_present_moment_by_default(folder: Path) -> None:
    year = datetime(2001, 1, 1, tzinfo=UTC)
    issue(folder, "old", not_before=year, not_after=year + timedelta(days=1))
    path = folder / "config.yaml"
    path.write_text(WHOLE.replace("file:tls/us", "file:old"))
    assert any("expired on 2001-01-02 00:00:00 UTC" in problem for problem in refused(path))
    with pytest.raises(ConfigError, match="is not valid before"):
        load(path, now=datetime(1999, 1, 1, tzinfo=UTC))


def test_no_secret_is_in_an_error_or_its_traceback(folder: Path) -> None:
    canary = "c4nary-c4nary"
    text = WHOLE.replace("file:keys/ci.secret", canary).replace("key: file:tls/us.key", f"key: {canary}")
    text = text.replace("https://orders.internal:8443", f"https://us:{canary}@orders.internal")
    text = text.replace("skew_s: 300", f"secret_key: {canary}").replace("user: ci,", f"user: ci, user: {canary},")
    path = folder / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(path, now=NOW)
    assert len(error.value.problems) == 5
    assert canary not in "".join(traceback.format_exception(error.value))
    assert error.value.__cause__ is None
    assert error.value.__context__ is None
