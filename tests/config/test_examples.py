"""The examples in the repository are what they claim: both load, and the full one shows every key."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.config.sample import NOW, issue, materialise
from ztproxy.app import plan
from ztproxy.config import Config, load, routes_of
from ztproxy.config.document import compose
from ztproxy.config.keys import all_keys, model_at

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = ("example-minimal.yaml", "example.yaml")


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example folder, with the keys and certificates it speaks of, on a machine that has CA certificates."""
    folder = tmp_path / "config"
    shutil.copytree(REPOSITORY / "config", folder)
    for name in EXAMPLES:
        materialise(folder, (folder / name).read_text(encoding="utf-8"))
    issue(tmp_path, "system-ca", ca=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system-ca.pem"))
    return folder


def test_minimal_example_loads_without_a_word(beside: Path) -> None:
    config = load(beside / "example-minimal.yaml", now=NOW)
    assert config.warnings == ()
    (route,) = routes_of(config)
    assert route.authenticate.any_of == ("corp", "certificate")


def test_minimal_example_is_as_short_as_promised() -> None:
    lines = (REPOSITORY / "config" / "example-minimal.yaml").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if not line.startswith("#")]) <= 12


def test_full_example_flags_the_open_route_alone(beside: Path) -> None:
    config = load(beside / "example.yaml", now=NOW)
    assert [warning.message for warning in config.warnings] == [
        "routes.2.authenticate: lets anyone ask; only the policy stands before the upstream"
    ]
    assert len(routes_of(config)) == 3


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_stand_up_to_everything_before_a_socket(beside: Path, name: str) -> None:
    plan(load(beside / name, now=NOW))


def test_full_example_shows_every_key() -> None:
    text = (REPOSITORY / "config" / "example.yaml").read_text(encoding="utf-8")
    shown = set()
    for place in compose("example.yaml", text).keys:
        if model_at(place[:-1]) is not None:
            shown.add(re.sub(r"\.\d+", "[]", ".".join(map(str, place))))
    shown = {re.sub(r"vpce-[0-9a-f]+", "*", key) for key in shown}
    assert shown == set(all_keys())


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_policy_an_example_names_is_in_the_repository(beside: Path, name: str) -> None:
    config: Config = load(beside / name, now=NOW)
    named = [route.policy for route in config.routes if route.policy is not None]
    named += [path for grant in config.grants for path in grant.policies]
    assert all((REPOSITORY / "config" / path.relative_to(beside)).is_file() for path in named)


def test_documentation_describes_every_key() -> None:
    text = (REPOSITORY / "docs" / "config.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))
    assert described == set(all_keys())
