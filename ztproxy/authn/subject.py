"""What may stand for a person or a workload: one rule for subjects, groups and tags, whoever vouches for them.

Two identities are the same when their code points are the same. Nothing is folded or normalised: `Ada` is not `ada`,
and the composed and decomposed spellings of one name are two identities (S15). What could pass for another identity
on a screen, in a header or in a log is no identity at all: control, format and bidirectional characters, separators
other than the space, unassigned code points, white space at an end.
"""

from __future__ import annotations

from typing import Final

MAX_SUBJECT_CHARACTERS: Final = 255
"""Source: OpenID Connect Core §2 (`sub`)."""


def is_identity_text(value: object) -> bool:
    """Whether this is a string fit to name somebody."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_SUBJECT_CHARACTERS
        and value.isprintable()
        and value[0] != " "
        and value[-1] != " "
    )


def is_email(value: object) -> bool:
    """Whether this is one plain address: one `@`, a local part, an ASCII domain without final dot."""
    if not is_identity_text(value):
        return False
    local, _, domain = str(value).partition("@")
    # STRICTER: RFC 5322 quotes `@` and spaces in local parts; two readers of such an address see two domains.
    if not local or " " in local or not domain.isascii():
        return False
    return all(_is_label(label) for label in domain.split("."))


def _is_label(label: str) -> bool:
    return (
        0 < len(label) <= 63
        and label.replace("-", "").isalnum()
        and not label.startswith("-")
        and not label.endswith("-")
    )
