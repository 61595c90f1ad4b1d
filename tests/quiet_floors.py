"""Which modules are quiet, and whether tests cover them wholly.

The one list is the import contract in `pyproject.toml`. `python tests/quiet_floors.py options` prints what pytest
needs to measure just these; `each` runs every module's own test module alone and wants 100 % from it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FULL = ("--cov-branch", "--cov-fail-under=100", "--cov-report=term-missing:skip-covered")


def quiet_modules() -> tuple[str, ...]:
    """The dotted names of all modules under the contract, packages' own `__init__` left out."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (listed,) = (contract["source_modules"] for contract in contracts if contract["id"] == "quiet")
    files: set[Path] = set()
    for name in listed:
        place = ROOT.joinpath(*name.split("."))
        files |= set(place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")])
    names = (file for file in files if file.is_file() and file.name != "__init__.py")
    modules = {".".join(file.relative_to(ROOT).with_suffix("").parts) for file in names}
    return tuple(sorted(modules - {"ztproxy.authz.source"}))  # the one module of that room that reads files


def own_test(module: str) -> Path:
    """Where the mirror rule puts the tests of a module."""
    *rooms, name = module.split(".")[1:]
    return ROOT.joinpath("tests", *rooms, f"test_{name.strip('_')}.py")


def coverage_options(modules: tuple[str, ...]) -> list[str]:
    """What pytest needs to measure these modules and to fail unless every branch was taken."""
    return [*(f"--cov={module}" for module in modules), *FULL]


def run_each() -> int:
    """Run each module's own tests alone; the number of modules they do not cover wholly."""
    lacking = 0
    for module in quiet_modules():
        with tempfile.TemporaryDirectory() as scratch:
            run = subprocess.run(
                [sys.executable, "-m", "pytest", str(own_test(module)), *coverage_options((module,))],
                cwd=ROOT,
                env={**os.environ, "COVERAGE_FILE": str(Path(scratch) / "data")},
                capture_output=True,
                text=True,
                check=False,
            )
        print("ok     " if run.returncode == 0 else "LACKING", module)
        if run.returncode != 0:
            lacking += 1
            print(run.stdout, run.stderr)
    return lacking


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["options"]:
            print(*coverage_options(quiet_modules()))
        case ["each"]:
            sys.exit(1 if run_each() else 0)
        case _:
            sys.exit("usage: quiet_floors.py options | each")
