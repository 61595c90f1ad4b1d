"""Findings of the validation library, in our words."""

from __future__ import annotations

from pathlib import Path

import pytest

from ztproxy.config.document import Document, compose
from ztproxy.config.validation import validate


def said(text: str) -> list[str]:
    config, problems = validate(compose("a.yaml", text), Path("/etc/ztproxy"))
    assert config is None
    return [f"{problem.line}:{problem.column}: {problem.message}" for problem in problems]


def part(line: str) -> list[str]:
    """What is said of one line beyond the keys that are missing anyway."""
    return [found.partition(": ")[2] for found in said(line) if not found.endswith(("is required", "known here"))]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("arn: 5", "arn: must be a mapping (got a number)"),
        ("arn: text", "arn: must be a mapping (got text)"),
        ("arn: [a]", "arn: must be a mapping (got a list)"),
        ("arn: true", "arn: must be a mapping (got true or false)"),
        ("issuers: {a: b}", "issuers: must be a list (got a mapping)"),
        ("network: {vpc_endpoints: []}", "network.vpc_endpoints: must be a mapping (got a list)"),
        ("sigv4: {skew_s: [1]}", "sigv4.skew_s: must be a whole number (got a list)"),
        ("sigv4: {skew_s: true}", "sigv4.skew_s: must be a whole number (got true)"),
        ("sigv4: {skew_s: 5.5}", "sigv4.skew_s: must be a whole number (got 5.5)"),
        ("sigv4: {skew_s: {a: 1}}", "sigv4.skew_s: must be a whole number (got a mapping)"),
        ("audit: {segment_bytes: 5}", "audit.segment_bytes: must be at least 65536 (got 5)"),
        ("audit: {spool: [1]}", "audit.spool: must be text (got a list)"),
        (f"arn: {{region: {'x' * 100}}}", f"arn.region: must be a region, such as `eu-west-1` (got `{'x' * 57}...`)"),
    ],
)
def test_words(line: str, message: str) -> None:
    assert part(line) == [message]


def test_value_that_has_none_is_told_without_a_value() -> None:
    assert "arn: must be a mapping (got nothing)" in part("arn:\n")


def test_missing_keys_are_told_at_the_mapping_they_belong_to() -> None:
    assert said("listeners:\n  - {name: edge}\n") == [
        "1:1: version: is required",
        "2:5: listeners.0.bind: is required",
        "2:5: listeners.0.protocol: is required",
        "2:5: listeners.0.tls: is required",
        "1:1: routes: is required",
    ]


def test_paths_of_forms_are_those_of_the_file() -> None:
    text = "routes:\n  - {authenticate: {all_of: [5], =rule: x}}\n"
    found = [line for line in said(text) if "authenticate" in line]
    assert found == [
        "2:30: routes.0.authenticate.all_of.0: must be text; put it in quotes (got 5)",
        "2:34: routes.0.authenticate.=rule: unknown key; known here: `all_of`, `any_of`",
    ]


def test_finding_without_words_of_its_own_is_still_told() -> None:
    document = Document(file="a.yaml", data={5: "x"}, values={(): (1, 1)}, keys={})
    config, problems = validate(document, Path("/etc/ztproxy"))
    assert config is None
    assert any(problem.message.endswith("is not valid: invalid key") for problem in problems)
