"""Actions, ARNs and principals."""

from __future__ import annotations

import pytest

from ztproxy.authz import match

ORDER = "arn:aws:execute-api:eu-west-1:111122223333:orders/prod/GET/orders/1"


@pytest.mark.parametrize(
    "pattern", ["*", "execute-api:*", "execute-api:inv?ke", "s3:Get*", "rds-db:Connect", "ztproxy:KillSession"]
)
def test_good_actions(pattern: str) -> None:
    assert match.check_action(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("Invoke", "not an action"),
        ("*:Invoke", "not an action"),
        ("execute-api:In voke", "not an action"),
        ("a,b:c", "not an action"),
        ("execute-api:", "not an action"),
        ("execute-api:Invok", "no action of `execute-api`"),
        ("RDS-DB:login", "no action of `RDS-DB`"),
    ],
)
def test_bad_actions(pattern: str, says: str) -> None:
    assert says in str(match.check_action(pattern))


def test_actions_ignore_case() -> None:
    fits = match.actions(["EXECUTE-API:inv*", "s3:Get"])
    assert fits("execute-api:Invoke")
    assert fits("S3:get")
    assert not fits("s3:Put")


def test_which_services_an_element_may_select() -> None:
    ours = frozenset(("execute-api",))
    assert match.covers_service(["*"], False, ours)
    assert match.covers_service(["Execute-API:Invoke"], False, ours)
    assert match.covers_service(["s3:*"], True, ours)
    assert not match.covers_service(["s3:*"], False, ours)


@pytest.mark.parametrize(
    ("pattern", "subject", "fits"),
    [
        ("*", "anything", True),
        (ORDER, ORDER, True),
        (ORDER, ORDER + "1", False),
        ("arn:aws:execute-api:eu-west-1:111122223333:orders/prod/*", ORDER, True),
        ("arn:aws:execute-api:eu-west-1:111122223333:other/*", ORDER, False),
        ("arn:aws:execute-api:*:111122223333:orders/*/GET/*", ORDER, True),
        ("arn:aws:execute-api:*:111122223333:orders/*/POST/*", ORDER, False),
        ("arn:aws:execute-api:eu-west-?:*:orders/prod/GET/orders/?", ORDER, True),
        ("arn:aws:s3:::bucket/*", "arn:aws:s3:::bucket/a:b/c", True),
        # A wildcard in one of the first five parts stays in its part.
        ("arn:aws:s3:*::bucket", "arn:aws:s3:a:b:bucket", False),
        ("arn:aws:s3:*:*:bucket", "arn:aws:s3:x:y:bucket", True),
        ("arn:aws:x:*:1:finance", "arn:aws:x:eu:2:a:1:finance", False),
    ],
)
def test_arns(pattern: str, subject: str, fits: bool) -> None:
    one = match.arn(pattern, variables=True)
    assert one.static
    assert match.arn_like([one])(subject) is fits
    more = [one, match.arn("arn:aws:a:b:c:exact", variables=True), match.arn("arn:aws:a:b:c:pre*", variables=True)]
    assert match.arn_like(more)(subject) is fits


def test_several_patterns_of_one_shape() -> None:
    both = match.arn_like(
        [match.arn("arn:aws:a:b:c:x*", variables=True), match.arn("arn:aws:a:b:c:y*", variables=True)]
    )
    assert both("arn:aws:a:b:c:xx")
    assert both("arn:aws:a:b:c:yy")
    assert not both("arn:aws:a:b:c:zz")
    assert not match.arn_like([])("arn:aws:a:b:c:zz")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("arn:aws:s3:bucket", "six parts"),
        ("orders/*", "six parts"),
        ("x:aws:s3:::b", "six parts"),
        ("", "six parts"),
        ("arn:aws:s3:::", "names no resource"),
        ("arn:aws:s3:${aws:RequestedRegion}::b", "before its last part"),
        ("arn:aws:s3:::${x", "never closed"),
    ],
)
def test_bad_arns(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        match.arn(text, variables=True)


@pytest.mark.parametrize(
    ("pattern", "prefix", "whole"),
    [
        ("*", "", False),
        ("arn:aws:s3:::b", "arn:aws:s3:::b", True),
        ("arn:aws:s3:::b/*", "arn:aws:s3:::b/", False),
        ("arn:aws:s3:*::b/*", "arn:aws:s3", False),
        ("arn:aws:s3:eu-?::b", "arn:aws:s3:eu-", False),
        ("arn:aws:s3:::h/${aws:username}/x", "arn:aws:s3:::h/", False),
    ],
)
def test_literal_prefixes(pattern: str, prefix: str, whole: bool) -> None:
    assert match.arn(pattern, variables=True).literal_prefix == (prefix, whole)


def test_templates() -> None:
    pattern = match.arn("arn:aws:s3:*::home/${aws:username}/*", variables=True)
    assert not pattern.static
    template = match.arn_template(pattern)
    assert template.matches("arn:aws:s3:eu::home/ada/x", lambda _: "ada") is True
    assert template.matches("arn:aws:s3:eu::home/bob/x", lambda _: "ada") is False
    assert template.matches("arn:aws:s4:eu::home/ada/x", lambda _: None) is False
    assert template.matches("arn:aws:s3:eu::home/ada/x", lambda _: None) is None


def test_a_session_is_also_its_role_and_its_account() -> None:
    session = "AWS:arn:aws:sts::111122223333:assumed-role/dev/ada"
    role = "AWS:arn:aws:iam::111122223333:role/dev"
    caller = match.caller((session, "AWS:arn:aws:iam::111122223333:role/team/dev"))
    assert caller == match.Caller(frozenset((session,)), frozenset((session, role)), frozenset(("AWS:111122223333",)))


def test_a_user_and_an_issuer() -> None:
    user = "AWS:arn:aws:iam::111122223333:user/team/ci"
    caller = match.caller((user, "AWS:arn:aws:iam::111122223333:root", "Federated:https://login.example.com"))
    assert caller.own == {user, "Federated:https://login.example.com"} == caller.direct
    assert caller.accounts == {"AWS:111122223333"}
    assert match.caller(()) == match.Caller(frozenset(), frozenset(), frozenset())


@pytest.mark.parametrize(
    ("kind", "value", "token"),
    [
        ("AWS", "*", "*"),
        ("AWS", "111122223333", "AWS:111122223333"),
        ("AWS", "arn:aws:iam::111122223333:root", "AWS:111122223333"),
        ("AWS", "arn:aws:iam::111122223333:user/a/b", "AWS:arn:aws:iam::111122223333:user/a/b"),
        ("AWS", "arn:aws:iam::111122223333:role/team/dev", "AWS:arn:aws:iam::111122223333:role/dev"),
        ("AWS", "arn:aws:sts::111122223333:assumed-role/dev/ada", "AWS:arn:aws:sts::111122223333:assumed-role/dev/ada"),
        ("Federated", "https://login.example.com", "Federated:https://login.example.com"),
        ("Federated", "x509:staff", "Federated:x509:staff"),
        (
            "Federated",
            "arn:aws:iam::111122223333:oidc-provider/login.example.com",
            "Federated:arn:aws:iam::111122223333:oidc-provider/login.example.com",
        ),
        ("Service", "lambda.amazonaws.com", "Service:lambda.amazonaws.com"),
    ],
)
def test_principals(kind: str, value: str, token: str) -> None:
    assert match.principal_token(kind, value, account="111122223333") == token
    assert match.principal_token(kind, value, account=None) == token


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("AWS", "ada"),
        ("AWS", ""),
        ("AWS", "11112222333"),
        ("AWS", "arn:aws:iam::111122223333:user/*"),
        ("AWS", "arn:aws:iam::111122223333:user/"),
        ("AWS", "arn:aws:iam::111122223333:group/dev"),
        ("AWS", "arn:aws:s3::111122223333:user/a"),
        ("AWS", "arn:aws:iam::1111:user/a"),
        ("AWS", "x:aws:iam::111122223333:user/a"),
        ("AWS", "arn:aws:iam:111122223333:user/a"),
        ("AWS", "arn:aws:iam::111122223333:user/a,arn:aws:iam::111122223333:user/b"),
        ("Federated", "*"),
        ("Federated", "https://login.?.com"),
        ("Federated", " https://login.example.com"),
        ("Federated", "arn:aws:iam::444455556666:oidc-provider/login.example.com"),
    ],
)
def test_principals_that_name_nobody(kind: str, value: str) -> None:
    with pytest.raises(ValueError, match="`"):
        match.principal_token(kind, value, account="111122223333")
