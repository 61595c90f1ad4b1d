"""The error tree: every code once, with a class, a status and words; and what an operator reads."""

from __future__ import annotations

import re

import pytest

from ztproxy import errors
from ztproxy.errors import CODES, AccessError, Code, ConfigError, Problem, Unauthenticated, ZtproxyError

HTTP = {0, 400, 401, 403, 404, 408, 413, 414, 417, 421, 431, 500, 501, 502, 503, 504}


@pytest.mark.parametrize("code", CODES)
def test_a_code_makes_its_error(code: str) -> None:
    spec = CODES[code]
    error = spec.error(code, "what the peer reads", detail="what the record holds")
    assert (error.code, error.public, error.detail) == (code, "what the peer reads", "what the record holds")
    assert (error.status, error.aws_code) == (spec.status, spec.aws_code)
    assert str(error) == "what the peer reads"
    assert isinstance(error, ZtproxyError)


@pytest.mark.parametrize(("code", "spec"), CODES.items(), ids=list(CODES))
def test_a_code_is_well_formed(code: str, spec: Code) -> None:
    assert re.fullmatch(r"[a-z]+(\.[a-z0-9]+(-[a-z0-9]+)*)?", code)
    assert spec.status in HTTP
    assert spec.meaning
    assert not spec.meaning.endswith(".")


def test_every_class_of_the_tree_has_a_code() -> None:
    classes = {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, AccessError)}
    assert classes - {AccessError} == {spec.error for spec in CODES.values()}


def test_a_code_of_another_class_is_refused() -> None:
    with pytest.raises(TypeError, match=r"code `authz\.error` belongs to Denied"):
        Unauthenticated("authz.error", "no")


def test_an_unknown_code_is_refused() -> None:
    with pytest.raises(KeyError):
        AccessError("no.such-code", "no")


def test_a_configuration_error_tells_every_problem_in_order() -> None:
    later = Problem("proxy.yaml", 10, 2, "routes.0.host: is empty")
    first = Problem("proxy.yaml", 9, 14, "issuers.0.leeway_s: must be at most 60 (got 600)")
    other = Problem("orders.yaml", 30, 1, "`Efect` is not an element; did you mean `Effect`?")
    error = ConfigError((later, first, other))
    assert error.problems == (other, first, later)
    assert error.exit_code == 2
    assert str(error).splitlines() == [
        "orders.yaml:30:1: `Efect` is not an element; did you mean `Effect`?",
        "proxy.yaml:9:14: issuers.0.leeway_s: must be at most 60 (got 600)",
        "proxy.yaml:10:2: routes.0.host: is empty",
    ]
