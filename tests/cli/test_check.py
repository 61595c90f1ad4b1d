"""`ztproxy check`: what happened first, every problem on its line, what to type next; exit codes 0 and 2."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

from tests.config.sample import issue
from ztproxy.cli.check import command
from ztproxy.config import Config
from ztproxy.errors import ConfigError

TEXT = """\
version: 1
listeners:
  - {name: edge, bind: 127.0.0.1:0, protocol: http, tls: {certificate: file:edge.pem, key: file:edge.key}}
issuers:
  - {name: corp, issuer: http://localhost:9100, audiences: [api://orders]}
routes:
  - {name: orders, host: "*", upstream: {url: http://127.0.0.1:9000}, policy: orders.yaml}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    issue(tmp_path, "edge", forever=True)
    (tmp_path / "orders.yaml").write_text("{}")
    path = tmp_path / "my config.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The configurations that the composition root was asked to plan; it finds nothing wrong with them."""
    seen: list[Config] = []
    install(monkeypatch, seen.append)
    return seen


def install(monkeypatch: pytest.MonkeyPatch, plan: Callable[[Config], object]) -> None:
    app = ModuleType("ztproxy.app")
    app.plan = plan  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ztproxy.app", app)


def check(path: Path) -> Result:
    return CliRunner().invoke(command, [str(path)])


def test_valid_configuration_is_planned_and_says_how_to_start(config: Path, planned: list[Config]) -> None:
    result = check(config)
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        f"{config}: valid, 1 listener, 1 route",
        f"start it: ztproxy serve -c '{config}'",
    ]
    assert [plan.file for plan in planned] == [str(config)]


def test_warnings_are_shown_and_do_not_fail(config: Path, planned: list[Config]) -> None:
    config.write_text(TEXT.replace("127.0.0.1:9000", "10.0.0.1:9000").replace("policy:", "authenticate: none, policy:"))
    result = check(config)
    assert result.exit_code == 0
    assert result.output.splitlines()[:-1] == [
        f"{config}: valid, 1 listener, 1 route, 3 warnings",
        f"{config}:5:5: warning: issuers.0: no route accepts tokens of `corp`",
        f"{config}:7:47: warning: routes.0.upstream.url: requests leave this machine unencrypted",
        f"{config}:7:84: warning: routes.0.authenticate: lets anyone ask; only the policy stands before the upstream",
    ]
    assert len(planned) == 1


def test_every_problem_has_its_line(config: Path, planned: list[Config]) -> None:
    config.write_text(TEXT.replace("version: 1", "version: 2").replace("policy:", "polocy:"))
    result = check(config)
    assert result.exit_code == 2
    assert result.output.splitlines() == [
        f"{config}: 2 problems",
        f"{config}:1:10: version: must be `1`, the only version of this format (got 2)",
        f"{config}:7:71: routes.0.polocy: unknown key; did you mean `policy`?",
        f"correct this, then check again: ztproxy check '{config}'",
    ]
    assert planned == []


def test_what_the_plan_finds_counts_too(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def plan(loaded: Config) -> None:
        raise ConfigError((loaded.problem(("routes", 0, "policy"), "is not a policy"),))

    install(monkeypatch, plan)
    result = check(config)
    assert result.exit_code == 2
    assert result.output.splitlines()[:2] == [
        f"{config}: 1 problem",
        f"{config}:7:79: routes.0.policy: is not a policy",
    ]


def test_missing_file_is_a_problem_like_any(tmp_path: Path, planned: list[Config]) -> None:
    result = check(tmp_path / "absent.yaml")
    assert result.exit_code == 2
    assert result.output.splitlines()[1].endswith("cannot be read: no such file or directory")
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_secret_written_inline_is_not_repeated(config: Path, planned: list[Config]) -> None:
    key = "access_keys: [{id: EXAMPLEKEY, secret: c4nary, user: ci}]\n"
    config.write_text(TEXT.replace("routes:", f"{key}routes:"))
    result = check(config)
    assert result.exit_code == 2
    assert "c4nary" not in result.output
