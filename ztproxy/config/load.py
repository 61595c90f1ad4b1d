"""From a file to a configuration that makes sense, or to every reason why it does not, at once.

Order: bytes (bounded, a regular file, UTF-8), YAML with places, models, cross-checks. Findings in the writing
do not keep the models from being looked at; only what the models refuse keeps the cross-checks from running.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ztproxy.config.checks import check
from ztproxy.config.document import compose
from ztproxy.config.models import Config
from ztproxy.config.references import Unresolvable, read_file
from ztproxy.config.validation import validate
from ztproxy.errors import ConfigError, Problem

MAX_FILE_BYTES: Final = 1024 * 1024


def load(path: Path, *, now: datetime | None = None) -> Config:
    """The configuration in the file at `path`, checked as of `now` (aware; default: this moment).

    Raises: `ConfigError` with every problem.
    """
    file = str(path)
    document = compose(file, _text(path, file))
    config, problems = validate(document, path.absolute().parent)
    # A value whose writing was refused already needs no second finding at the same place.
    seen = {(problem.line, problem.column) for problem in document.problems}
    problems = document.problems + tuple(p for p in problems if (p.line, p.column) not in seen)
    if config is None or problems:
        raise ConfigError(problems)
    findings = check(config.located(document), now or datetime.now(UTC))
    if findings.problems:
        raise ConfigError(findings.problems)
    return config.located(document, findings.warnings)


def _text(path: Path, file: str) -> str:
    try:
        content = read_file(path, limit=MAX_FILE_BYTES)
    except Unresolvable as error:
        raise ConfigError((Problem(file, 1, 1, str(error)),)) from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise ConfigError((Problem(file, line, column, "is not UTF-8 text"),)) from None
