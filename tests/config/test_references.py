"""References resolve to what they name, say what is wrong in words, and never show a value."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ztproxy.config import references
from ztproxy.config.references import (
    MAX_SECRET_BYTES,
    EnvReference,
    FileReference,
    Unresolvable,
    file_reference,
    located,
    read_file,
    secret_reference,
)

BASE = Path("/etc/ztproxy")


def said(reference: object) -> str:
    with pytest.raises(Unresolvable) as error:
        reference.secret()  # type: ignore[attr-defined]
    return str(error.value)


def test_paths_count_from_the_base() -> None:
    assert file_reference("file:tls/edge.pem", BASE) == FileReference("file:tls/edge.pem", BASE / "tls/edge.pem")
    assert file_reference("file:/run/edge.pem", BASE).path == Path("/run/edge.pem")
    assert str(secret_reference("file:a", BASE)) == "file:a"
    assert str(secret_reference("env:NAME", BASE)) == "env:NAME"
    assert located("../policies/a.yaml", BASE) == BASE / "../policies/a.yaml"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hunter2", "must be a reference, `env:<name>` or `file:<path>`; a secret is never written into the file"),
        (
            "password:hunter2",
            "must be a reference, `env:<name>` or `file:<path>`; a secret is never written into the file",
        ),
        (12345, "must be a reference, `env:<name>` or `file:<path>`; a secret is never written into the file"),
        ("kms:alias/x", "`kms:` references arrive with a later version; use `env:` or `file:`"),
        ("ssm:/x", "`ssm:` references arrive with a later version; use `env:` or `file:`"),
        ("secretsmanager:x", "`secretsmanager:` references arrive with a later version; use `env:` or `file:`"),
        ("env:", "`env:` must be followed by the name of a variable"),
        ("env:a b", "`env:` must be followed by the name of a variable"),
        ("file: ", "the path is empty"),
        ("file:///etc/key", "is written as `file:<path>`, without `//` before the path"),
    ],
)
def test_what_is_no_reference_is_refused_and_not_repeated(text: object, message: str) -> None:
    with pytest.raises(Unresolvable) as error:
        secret_reference(text, BASE)
    assert str(error.value) == message
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tls/edge.pem", "must be a reference to a file, `file:<path>`"),
        ("env:KEY", "must be a file here, `file:<path>`"),
        ("kms:alias/x", "`kms:` references arrive with a later version; use `file:`"),
    ],
)
def test_files_are_wanted_where_only_files_do(text: str, message: str) -> None:
    with pytest.raises(Unresolvable) as error:
        file_reference(text, BASE)
    assert str(error.value) == message


def test_environment_gives_a_secret() -> None:
    reference = EnvReference("env:KEY", "KEY")
    assert reference.secret({"KEY": "hünter2"}).reveal() == "hünter2".encode()
    assert "hunter2" not in repr(reference.secret({"KEY": "hunter2"}))


def test_environment_is_this_process_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZT_TEST_KEY", "hunter2")
    assert EnvReference("env:ZT_TEST_KEY", "ZT_TEST_KEY").secret().reveal() == b"hunter2"
    monkeypatch.delenv("ZT_TEST_KEY")
    assert said(EnvReference("env:ZT_TEST_KEY", "ZT_TEST_KEY")) == "the environment has no variable `ZT_TEST_KEY`"
    monkeypatch.setenv("ZT_TEST_KEY", "")
    assert said(EnvReference("env:ZT_TEST_KEY", "ZT_TEST_KEY")) == "the variable `ZT_TEST_KEY` is empty"


@pytest.mark.parametrize(
    ("content", "secret"),
    [(b"hunter2", b"hunter2"), (b"hunter2\n", b"hunter2"), (b"hunter2\r\n", b"hunter2"), (b" a\n\n", b" a\n")],
)
def test_file_gives_a_secret_without_its_line_end(tmp_path: Path, content: bytes, secret: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    assert FileReference("file:key", path).secret().reveal() == secret


def test_files_that_cannot_serve_are_named(tmp_path: Path) -> None:
    def of(path: Path) -> str:
        return said(FileReference("file:x", path))

    empty, large, fifo = tmp_path / "empty", tmp_path / "large", tmp_path / "fifo"
    empty.write_bytes(b"\n")
    large.write_bytes(b"x" * (MAX_SECRET_BYTES + 1))
    os.mkfifo(fifo)
    assert of(tmp_path / "absent") == f"`{tmp_path}/absent` cannot be read: no such file or directory"
    assert of(tmp_path) == f"`{tmp_path}` is not a regular file"
    assert of(fifo) == f"`{fifo}` is not a regular file"
    assert of(Path("/dev/zero")) == "`/dev/zero` is not a regular file"
    assert of(empty) == f"`{empty}` is empty"
    assert of(large) == f"`{large}` is larger than {MAX_SECRET_BYTES} bytes"
    assert of(tmp_path / "a\0b").endswith("cannot be read: the path is not valid")


def test_a_failing_disk_is_told_and_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"x")
    before = len(os.listdir("/proc/self/fd"))

    def failing(*arguments: object, **options: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(references, "open", failing, raising=False)
    with pytest.raises(Unresolvable) as error:
        read_file(path, limit=10)
    assert str(error.value) == f"`{path}` cannot be read: input/output error"
    assert len(os.listdir("/proc/self/fd")) == before
