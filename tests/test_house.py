"""The rules of the house that a tool can hold: where code lives, who tests it, who may make a grant."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.quiet_floors import own_test, quiet_modules
from ztproxy.errors import CODES

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "ztproxy").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
UNMIRRORED = {
    "conformance": "one module per corpus",
    "contracts": "one suite per Protocol",
    "end_to_end": "one promise per file",
    "fakes": "what has no real peer",
    "servers": "fixtures that start real peers",
    "threats": "one file per row of the threat model",
    "vectors": "cases, and the scripts that make them",
}
ABOUT_EVERYTHING = {
    "tests/test_house.py",
    "tests/test_repository.py",
    "tests/audit/test_documentation.py",
    "tests/config/test_examples.py",
}
NOBODYS_NOUN = {"common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}


def relative(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def has_code(tree: ast.Module) -> bool:
    """Whether some function has a body besides its docstring and `...`: a Protocol alone is no code."""
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return any(
        not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        for function in functions
        for statement in function.body
    )


def test_every_module_with_code_has_its_test_module() -> None:
    modules = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in SOURCES
        if file.name != "__init__.py" and has_code(ast.parse(file.read_text()))
    }
    assert len(modules) > 20
    missing = {module: relative(own_test(module)) for module in modules if not own_test(module).is_file()}
    assert missing == {}


def test_every_test_module_of_a_mirrored_room_has_its_module() -> None:
    mirrored = {relative(own_test(".".join(file.relative_to(ROOT).with_suffix("").parts))) for file in SOURCES}
    orphans = [
        name
        for name in map(relative, TESTS)
        if re.search(r"/test_\w+\.py$", name)
        and name.split("/")[1] not in UNMIRRORED
        and name not in mirrored | ABOUT_EVERYTHING
        # `test_recorder_failing.py` is a second file about `recorder`, where one would outgrow itself.
        and not any(name.startswith(own.removesuffix(".py") + "_") for own in mirrored)
    ]
    assert orphans == []


def test_every_test_file_is_collected() -> None:
    """A test function in a file that pytest does not pick up never runs."""
    lost = [
        relative(file)
        for file in TESTS
        if not file.name.startswith("test_")
        and any(isinstance(node, ast.FunctionDef) and node.name.startswith("test_") for node in parsed(file).body)
    ]
    assert lost == []


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    marks = re.compile(r"pytest\.(mark\.)?(skip|skipif|xfail|importorskip)\b")
    assert [relative(file) for file in TESTS if file != Path(__file__) and marks.search(file.read_text())] == []


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def calls(tree: ast.Module, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Name(id=called) | ast.Attribute(attr=called) if called == name:
                    yield node


def test_only_the_gate_makes_grants() -> None:
    makers = {relative(file) for file in SOURCES if any(calls(parsed(file), "Grant"))}
    assert makers == {"ztproxy/gate.py"}


def test_every_error_code_is_documented() -> None:
    documented = (ROOT / "docs" / "audit.md").read_text()
    assert [code for code in CODES if f"`{code}`" not in documented] == []


def test_no_file_outgrows_its_responsibility() -> None:
    long = {relative(file): len(file.read_text().splitlines()) for file in [*SOURCES, *TESTS]}
    assert {name: lines for name, lines in long.items() if lines > 400} == {}


def test_no_module_is_named_for_nothing() -> None:
    parts = {
        part: relative(file) for file in [*SOURCES, *TESTS] for part in file.relative_to(ROOT).with_suffix("").parts
    }
    assert {part: file for part, file in parts.items() if part in NOBODYS_NOUN} == {}


def test_rooms_hold_their_code_in_modules() -> None:
    """An `__init__` is empty or a short re-export; the entry point of the command line is the one exception."""
    code = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    rooms = [file for file in SOURCES if file.name == "__init__.py"]
    holding = {relative(file) for file in rooms if any(isinstance(node, code) for node in ast.walk(parsed(file)))}
    assert holding == {"ztproxy/cli/__init__.py"}


def test_the_contract_names_every_quiet_module() -> None:
    named = {"authn.jwt", "authn.minted", "authn.mtls", "authn.sigv4", "audit.ocsf", "audit.seal"}
    named |= {"errors", "ports", "routing", "types"}
    quiet = {
        f"ztproxy.{name}" for name in named if ROOT.joinpath("ztproxy", *name.split(".")).with_suffix(".py").exists()
    }
    for room in ("authz", "wire"):
        inside = (file.stem for file in (ROOT / "ztproxy" / room).glob("*.py"))
        quiet |= {f"ztproxy.{room}.{stem}" for stem in inside if stem != "__init__"} - {"ztproxy.authz.source"}
    assert len(quiet) > 10
    assert quiet - set(quiet_modules()) == set()


def test_nothing_is_left_out_of_coverage() -> None:
    pragma = "pragma: " + "no cover"
    assert [relative(file) for file in [*SOURCES, *TESTS] if pragma in file.read_text()] == []
