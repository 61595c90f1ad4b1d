"""Types of single fields: what they keep, what they refuse, and what editors are told."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter, ValidationError

from ztproxy.config import fields


def errors(annotation: Any, value: object) -> list[str]:
    try:
        TypeAdapter(annotation).validate_python(value)
    except ValidationError as error:
        return [found["msg"] for found in error.errors()]
    return []


def test_like_keeps_the_text_and_publishes_its_pattern() -> None:
    assert TypeAdapter(fields.Account).validate_python("012345678901") == "012345678901"
    assert TypeAdapter(fields.Account).json_schema() == {"type": "string", "pattern": "^[0-9]{12}$"}


@pytest.mark.parametrize("value", ["١٢٣٤٥٦٧٨٩٠١٢", "111122223333\n", 111122223333, True, None])
def test_like_takes_ascii_text_alone(value: object) -> None:
    assert len(errors(fields.Account, value)) == 1


def test_list_that_may_not_be_empty() -> None:
    names = Annotated[tuple[fields.Name, ...], fields.NOT_EMPTY, fields.DISTINCT]
    assert errors(names, ()) == ["must not be empty"]
    assert errors(names, ("a", "b")) == []
    assert errors(names, ("a", "b", "a")) == ["holds `a` twice"]
    assert len(errors(names, ("-",))) == 1
    assert TypeAdapter(names).json_schema()["minItems"] == 1


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (fields.Name, "orders-v1.2_x", "Orders!"),
        (fields.Stage, "$default", "a.b"),
        (fields.Partition, "aws-us-gov", "AWS"),
        (fields.Region, "us-gov-west-1", "local"),
        (fields.TrustDomain, "prod.example.com", "Prod"),
        (fields.PrincipalArn, "arn:aws:iam::111122223333:role/ops", "arn:aws:iam::111122223333:role/*"),
        (fields.PrincipalArn, "arn:aws:sts::111122223333:assumed-role/ops/ada", "arn:aws:s3:::bucket"),
        (fields.SpiffeId, "spiffe://prod.example.com/a/b", "spiffe://prod.example.com/a/*"),
        (fields.SpiffeId, "spiffe://prod.example.com/a", "https://prod.example.com/a"),
        (fields.ExactText, "api://orders", " "),
        (fields.Text, "a*b", ""),
        (fields.VpcId, "vpc-0a1b2c3d", "vpc-0A1B2C3D"),
    ],
)
def test_shapes(annotation: Any, good: str, bad: str) -> None:
    assert errors(annotation, good) == []
    assert len(errors(annotation, bad)) == 1


def test_text_has_a_bound() -> None:
    assert errors(fields.Text, "x" * 2048) == []
    assert errors(fields.Text, "x" * 2049) == ["must be at most 2048 characters"]


def test_paths_are_plain() -> None:
    assert errors(fields.FilePath, "policies/a.yaml") == []
    assert errors(fields.FilePath, " ") == ["the path is empty"]
    assert errors(fields.FilePath, "s3:bucket") == ["must be a plain path, without `s3:`"]
