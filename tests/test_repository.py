"""What stands around the code keeps its word: locks, threat model, documents, Makefile, the built wheel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from ztproxy import __version__

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("requirements.lock", "requirements-dev.lock")
PIN = re.compile(r"([A-Za-z0-9._-]+)==(\S+?)(?: ; (.+))?")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
STAGES = ("HTTP door", "identity", "policy", "databases", "audit", "operations")


def tracked() -> list[Path]:
    """Every file of the repository, those about to be added included."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=30).stdout.decode()
    return sorted(file for name in set(listed.split("\0")) if name and (file := ROOT / name).is_file())


def relative(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def pyproject() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def read_lock(name: str) -> dict[str, Version]:
    """The pinned versions of a lock; every line must be a pin or a hash, and every pin must have hashes."""
    pins: dict[str, Version] = {}
    for entry in (ROOT / name).read_text().replace(" \\\n", " ").splitlines():
        requirement, *hashes = re.split(r"\s+(?=--hash)", entry)
        found = PIN.fullmatch(requirement.strip())
        assert found, f"{name}: `{entry[:80]}` is not an exact pin"
        assert hashes, f"{name}: `{requirement}` has no hash"
        assert all(HASH.fullmatch(value.strip()) for value in hashes), f"{name}: `{requirement}` carries something else"
        pins[canonicalize_name(found[1])] = Version(found[2])
    return pins


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_nothing_but_pins_and_hashes(name: str) -> None:
    assert len(read_lock(name)) > 20


def test_the_locks_agree() -> None:
    runtime, development = read_lock(LOCKS[0]), read_lock(LOCKS[1])
    assert {name: development.get(name) for name in runtime} == runtime


def test_the_locks_hold_what_the_project_asks_for() -> None:
    project = pyproject()
    runtime = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["speed"]]
    development = [*runtime, *project["dependency-groups"]["dev"], *project["build-system"]["requires"], "editables"]
    for name, wanted in ((LOCKS[0], runtime), (LOCKS[1], development)):
        pins = read_lock(name)
        for requirement in map(Requirement, wanted):
            pinned = pins.get(canonicalize_name(requirement.name))
            assert pinned is not None, f"{name} lacks `{requirement}`: run `make lock`"
            assert requirement.specifier.contains(pinned, prereleases=True), f"{name}: `{requirement}` has moved on"


def test_nothing_names_this_machine_or_a_package_index() -> None:
    generic = {Path(place) for place in ("/", "/home", "/opt", "/root", "/srv", "/tmp", "/usr", "/var/tmp", "/builds")}
    places = [
        str(place) for place in (ROOT, ROOT.parent, Path(sys.prefix)) if place not in generic | {Path("/usr/local")}
    ]
    machine = "|".join(re.escape(place) + r"(?![\w.-])" for place in places)
    index = r"--(?:extra-)?index" + r"-url|--find" + r"-links|py" + r"pi\.org|python" + r"hosted\.org"
    forbidden = re.compile(f"{machine}|{index}".encode())
    assert [relative(file) for file in tracked() if forbidden.search(file.read_bytes())] == []


def test_no_private_key_is_kept_here() -> None:
    marker = re.compile(rb"^-----BEGIN [A-Z ]*" + rb"PRIVATE KEY-----", re.MULTILINE)
    assert [relative(file) for file in tracked() if marker.search(file.read_bytes())] == []


def threat_rows() -> list[tuple[str, str]]:
    text = (ROOT / "THREAT_MODEL.md").read_text()
    rows = (line.strip().strip("|").split(" | ") for line in text.splitlines() if re.match(r"\| S\d\d \|", line))
    return [(cells[0].strip(), cells[-1].strip()) for cells in rows]


def test_the_threat_model_has_every_row_once() -> None:
    assert sorted(row for row, _ in threat_rows()) == [f"S{number:02}" for number in range(1, 38)]


@pytest.mark.parametrize(("row", "held_by"), threat_rows())
def test_a_threat_is_held_by_tests_that_exist_or_owed_to_a_stage(row: str, held_by: str) -> None:
    tests, _, owed = held_by.partition("owed: ")
    named = re.findall(r"`([^`]+)`", tests)
    assert re.sub(r"`[^`]+`|[,;\s]", "", tests) == ""
    assert named or owed
    assert owed in {"", *STAGES}
    for name in named:
        path, _, function = name.partition("::")
        assert (ROOT / path).is_file(), name
        assert not function or f"def {function}(" in (ROOT / path).read_text(), name


def test_every_threat_test_stands_in_the_threat_model() -> None:
    text = (ROOT / "THREAT_MODEL.md").read_text()
    assert [file.name for file in (ROOT / "tests" / "threats").glob("test_*.py") if file.name not in text] == []


DOCUMENTS = [file for file in tracked() if file.suffix == ".md"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text())
    dead = [target for target in targets if "://" not in target and not (document.parent / target).exists()]
    assert dead == []


@pytest.mark.parametrize("document", [file for file in DOCUMENTS if file.name != "CHANGELOG.md"], ids=relative)
def test_modules_named_in_documents_exist(document: Path) -> None:
    named = set(re.findall(r"`((?:ztproxy|tests|docs|config|loadtests)/[\w/.-]+\.\w+)`", document.read_text()))
    assert {name for name in named if not (ROOT / name).exists()} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_make_commands_named_in_documents_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`|\$ )make ([a-z][a-z-]*)", document.read_text(), re.MULTILINE))
    assert named - targets == set()


def test_the_readme_shows_its_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme


def test_the_readme_shows_what_really_comes_out() -> None:
    shown = re.search(r"<!-- demo: begin[^>]*-->(.*)<!-- demo: end -->", (ROOT / "README.md").read_text(), re.DOTALL)
    assert shown
    assert "403" in shown[1]


def test_ci_runs_what_the_readme_says() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.search(r"^make .*\btest\b", script.read_text(), re.MULTILINE)
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=10)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as anyone would build it, without reaching for the network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*command, "--quiet", "--wheel-dir", str(folder)], check=True, timeout=50, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    information = f"ztproxy-{__version__}.dist-info/"
    package = {relative(file) for file in tracked() if relative(file).startswith("ztproxy/")}
    assert {name for name in names if not name.startswith(information)} == package
    assert "ztproxy/py.typed" in package
    assert f"{information}licenses/LICENSE" in names


def test_the_installed_wheel_answers(wheel: Path, tmp_path: Path) -> None:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(tmp_path)]
    subprocess.run([*install, str(wheel)], check=True, timeout=50, capture_output=True)
    program = [sys.executable, str(tmp_path / "bin" / "ztproxy"), "--version"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    answer = subprocess.run(
        program, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, f"ztproxy {__version__}\n", "")
