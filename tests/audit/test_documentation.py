"""`docs/audit.md` says what the code does: every code, field, class, event and kind of fault."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from ztproxy.audit.record import FIELDS
from ztproxy.audit.seal import Sealer, cut, genesis
from ztproxy.audit.verify import FaultKind
from ztproxy.errors import CODES

PAGE = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_its_row(code: str) -> None:
    spec = CODES[code]
    assert f"| `{code}` | {spec.status or 'closes'} | {spec.aws_code or '-'} | {spec.meaning} |" in ROWS


def test_no_code_stands_there_that_does_not_exist() -> None:
    table = PAGE.partition("## Codes")[2]
    assert set(re.findall(r"^\| `([a-z0-9.-]+)` \|", table, re.MULTILINE)) == set(CODES)


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_stands_in_a_row_of_its_class(field: str) -> None:
    rows = [row for row in ROWS if f"`{field}`" in row and f"| {FIELDS[field].value} |" in row]
    assert rows, f"`{field}` ({FIELDS[field].value}) is not in the table"


@pytest.mark.parametrize("kind", FaultKind)
def test_every_kind_of_fault_is_explained(kind: FaultKind) -> None:
    assert any(row.startswith(f"| `{kind.value}` |") for row in ROWS)


def test_the_recipe_by_hand_gives_the_hash() -> None:
    (recipe,) = [line.strip() for line in PAGE.splitlines() if line.strip().startswith("printf ")]
    line = cut(Sealer(genesis("c1")).seal(b'{"text":"it\'s \\"quoted\\""}')[:-1])
    assert line is not None
    environment = {
        "PATH": "/usr/bin:/bin",
        "chain": line.chain,
        "seq": str(line.seq),
        "prev": line.prev.decode(),
        "body": line.body.decode(),
    }
    answer = subprocess.run(["sh", "-c", recipe], env=environment, capture_output=True, check=True)
    assert answer.stdout.split()[0] == line.hash
