"""IAM's patterns: `*`, `?` and policy variables, read once into tokens.

Matching takes time linear in the text for a given pattern: between two stars the leftmost place is always as good as
any later one, so the regular expressions made here use atomic groups and never go back past a star.
A value put in for a variable is literal: a `*` inside it matches only `*` (aws.md §4.2).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Wild(Enum):
    """The two wildcards."""

    ANY = "*"
    ONE = "?"


@dataclass(frozen=True, slots=True)
class Variable:
    """`${key}` or `${key, 'default'}`."""

    key: str
    """As written; compared in lower case."""
    default: str | None = None


Token = str | Wild | Variable
Template = tuple[Token, ...]
Resolved = tuple[str | Wild, ...]
"""A template whose variables have become text."""

_SPECIAL: Final = re.compile(r"\$\{([^}]*)(\}?)|\*|\?")
_VARIABLE: Final = re.compile(r"\s*([^\s,']+)\s*(?:,\s*'([^']*)')?\s*")
_ESCAPES: Final = frozenset(("*", "?", "$"))


def read(text: str, *, wildcards: bool, variables: bool) -> Template:
    """The tokens of a pattern, adjacent literals joined.

    Raises: `ValueError` for a variable that cannot be read.
    """
    tokens: list[Token] = []
    literal: list[str] = []

    def flush() -> None:
        if joined := "".join(literal):
            tokens.append(joined)
        literal.clear()

    position = 0
    while found := _SPECIAL.search(text, position):
        literal.append(text[position : found.start()])
        position = found.end()
        body = found.group(1)
        if body is None:
            if wildcards:
                flush()
                tokens.append(Wild(found.group()))
            else:
                literal.append(found.group())
        elif not variables:
            # Only the two characters are literal: the text after them may hold wildcards.
            literal.append("${")
            position = found.start() + 2
        elif not found.group(2):
            raise ValueError(f"the variable that begins at `{found.group()[:40]}` is never closed")
        elif body in _ESCAPES:
            literal.append(body)
        else:
            shape = _VARIABLE.fullmatch(body)
            if shape is None or ":" not in shape.group(1):
                raise ValueError(f"`{found.group()}` is not a variable such as `${{aws:username}}`")
            flush()
            tokens.append(Variable(shape.group(1), shape.group(2)))
    literal.append(text[position:])
    flush()
    return tuple(tokens)


def resolve(template: Template, lookup: Callable[[str], str | None]) -> Resolved | None:
    """The template with its variables filled in; None when one has neither value nor default."""
    tokens: list[str | Wild] = []
    for token in template:
        if isinstance(token, Variable):
            value = lookup(token.key) or token.default
            if not value:
                # STRICTER: an empty value counts as none, or `home/${x}*` would open every home.
                return None
            tokens.append(value)
        else:
            tokens.append(token)
    return tuple(tokens)


def fixed(template: Template) -> Resolved | None:
    """The template itself when it has no variables, else None."""
    return None if any(isinstance(token, Variable) for token in template) else template  # type: ignore[return-value]


def text(tokens: Resolved) -> str:
    """The tokens as one text, wildcards as their characters."""
    return "".join(token.value if isinstance(token, Wild) else token for token in tokens)


def expression(tokens: Sequence[str | Wild], character: str = ".") -> str:
    """A regular expression for `re.DOTALL` and `fullmatch`; `character` is what a wildcard may stand for."""
    chunks = [""]
    for token in tokens:
        if token is Wild.ANY:
            chunks.append("")
        elif token is Wild.ONE:
            chunks[-1] += character
        else:
            chunks[-1] += re.escape(str(token))
    if len(chunks) == 1:
        return chunks[0]
    head, *middle, tail = chunks
    return head + "".join(f"(?>{character}*?{chunk})" for chunk in middle if chunk) + f"{character}*{tail}"


def matches(tokens: Sequence[str | Wild], subject: str) -> bool:
    """Whether the whole subject fits; for patterns known only now, where compiling would cost more."""
    head = tokens[0] if tokens else ""
    if isinstance(head, str):
        if not subject.startswith(head):
            return False
        tokens, subject = tokens[1:], subject[len(head) :]
    units: list[str | Wild] = []
    for token in tokens:
        units.extend((token,) if isinstance(token, Wild) else token)
    here = there = 0
    star, resume = -1, 0
    while there < len(subject):
        unit = units[here] if here < len(units) else None
        if unit is Wild.ANY:
            star, resume = here, there
            here += 1
        elif unit is Wild.ONE or unit == subject[there]:
            here, there = here + 1, there + 1
        elif star >= 0:
            resume += 1
            here, there = star + 1, resume
        else:
            return False
    return all(unit is Wild.ANY for unit in units[here:])


def like(patterns: Sequence[Resolved]) -> Callable[[str], bool]:
    """A test whether a text fits one of the patterns, by equality, prefix or one regular expression as suits them."""
    exact = frozenset(text(tokens) for tokens in patterns if not any(isinstance(token, Wild) for token in tokens))
    prefixes: list[str] = []
    others: list[str] = []
    for tokens in patterns:
        wild = [token for token in tokens if isinstance(token, Wild)]
        if wild == [Wild.ANY] and tokens[-1] is Wild.ANY:
            prefixes.append(text(tokens[:-1]))
        elif wild:
            others.append(expression(tokens))
    starts = tuple(prefixes)
    if exact and not starts and not others:
        return exact.__contains__
    if not exact and not others:
        return lambda value: value.startswith(starts)
    fits = re.compile("|".join(others or ["(?!)"]), re.DOTALL).fullmatch
    return lambda value: value in exact or value.startswith(starts) or fits(value) is not None
