"""References: how a configuration names a file or a secret without holding it.

`file:` and `env:` exist now; the stores of AWS come later and are refused by name. A value that is none of
these is taken for a secret written inline: it is refused, and never repeated in the message.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ztproxy.types import Secret

MAX_SECRET_BYTES: Final = 64 * 1024
_LATER: Final = ("secretsmanager", "ssm", "kms")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class Unresolvable(ValueError):
    """A reference that cannot be read now, or text that is no reference; its words never hold a value."""


@dataclass(frozen=True, slots=True)
class FileReference:
    """`file:` and the absolute path it means."""

    written: str
    path: Path

    def secret(self) -> Secret:
        """The file's bytes without one final line end.

        Raises: `Unresolvable`.
        """
        value = read_file(self.path, limit=MAX_SECRET_BYTES)
        return _nonempty(value.removesuffix(b"\n").removesuffix(b"\r"), f"`{self.path}`")

    def __str__(self) -> str:
        return self.written


@dataclass(frozen=True, slots=True)
class EnvReference:
    """`env:` and the name of the variable."""

    written: str
    variable: str

    def secret(self, environ: Mapping[str, str] = os.environ) -> Secret:
        """The variable's bytes.

        Raises: `Unresolvable`.
        """
        value = environ.get(self.variable)
        if value is None:
            raise Unresolvable(f"the environment has no variable `{self.variable}`")
        return _nonempty(value.encode("utf-8", "surrogateescape"), f"the variable `{self.variable}`")

    def __str__(self) -> str:
        return self.written


SecretReference = FileReference | EnvReference


def file_reference(text: object, base: Path) -> FileReference:
    """The reference `file:<path>`; a relative path counts from `base`.

    Raises: `Unresolvable`.
    """
    if isinstance(text, str) and text.startswith("env:"):
        raise Unresolvable("must be a file here, `file:<path>`")
    reference = secret_reference(text, base, hint="must be a reference to a file, `file:<path>`", now="`file:`")
    assert isinstance(reference, FileReference)
    return reference


def secret_reference(text: object, base: Path, *, hint: str = "", now: str = "`env:` or `file:`") -> SecretReference:
    """The reference `env:<name>` or `file:<path>`; a relative path counts from `base`.

    `hint` says what is wanted of text that is no reference, `now` which kinds exist here already.

    Raises: `Unresolvable`.
    """
    scheme, colon, target = text.partition(":") if isinstance(text, str) else ("", "", "")
    if colon and scheme in _LATER:
        raise Unresolvable(f"`{scheme}:` references arrive with a later version; use {now}")
    if not colon or scheme not in ("env", "file"):
        raise Unresolvable(
            hint or "must be a reference, `env:<name>` or `file:<path>`; a secret is never written into the file"
        )
    assert isinstance(text, str)
    if scheme == "env":
        if not _VARIABLE.fullmatch(target):
            raise Unresolvable("`env:` must be followed by the name of a variable")
        return EnvReference(text, target)
    return FileReference(text, located(target, base))


def located(path: str, base: Path) -> Path:
    """`path` made absolute, counted from `base`; `..` is left to the file system, as links may be involved.

    Raises: `Unresolvable` when it is empty or a URL.
    """
    if not path.strip():
        raise Unresolvable("the path is empty")
    if path.startswith("//"):
        raise Unresolvable("is written as `file:<path>`, without `//` before the path")
    return base / path


def read_file(path: Path, *, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes.

    Raises: `Unresolvable`, in words for the operator.
    """
    try:
        # O_NONBLOCK: a FIFO put in the file's place must not stop the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise Unresolvable(f"`{path}` cannot be read: {_reason(error)}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unresolvable(f"`{path}` is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise Unresolvable(f"`{path}` cannot be read: {_reason(error)}") from None
    finally:
        os.close(descriptor)
    if len(content) > limit:
        raise Unresolvable(f"`{path}` is larger than {limit} bytes")
    return content


def _reason(error: OSError | ValueError) -> str:
    words = error.strerror if isinstance(error, OSError) else None
    return (words or "the path is not valid").lower()


def _nonempty(value: bytes, where: str) -> Secret:
    if not value:
        raise Unresolvable(f"{where} is empty")
    return Secret(value)
