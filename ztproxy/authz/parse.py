"""IAM JSON or YAML -> `Policy`: every problem at once, each with its place.

What cannot be understood is refused, never skipped: an element, operator or key that means nothing here would be a
restriction that silently does nothing (S14), a version that is not known could mean something else (S34).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final, get_args

from ztproxy.authz import context, glob, match
from ztproxy.authz.document import Listing, Mapping, Node, Scalar, compose
from ztproxy.authz.operators import FORMS, Form, check_value, form, variables_of
from ztproxy.authz.policy import EVERYONE, Condition, Policy, PolicyKind, Statement, StatementEffect, Version
from ztproxy.errors import ConfigError, Problem

_POLICY: Final = ("Version", "Id", "Statement")
_STATEMENT: Final = (
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
)
_PRINCIPALS: Final = ("AWS", "Federated", "Service", "CanonicalUser")
_VERSIONS: Final[tuple[Version, ...]] = get_args(Version)
_FITTING: Final[dict[str, tuple[str, ...]]] = {
    "ip": ("ip", "null"),
    "date": ("date", "null"),
    "numeric": ("numeric", "null"),
    "bool": ("bool", "string", "null"),
    "arn": ("arn", "string", "null"),
    "string": ("string", "arn", "null"),
    "any": ("string", "arn", "numeric", "date", "bool", "ip", "null"),
}
"""Operator families that make sense for a type of key. STRICTER: IAM stores the others, which then never match."""
_SHORT: Final = "execute-api:/"


def parse_policy(text: str, *, file: str, kind: PolicyKind, route_arn: str | None) -> Policy:
    """The policy in a text.

    `route_arn` (`arn:aws:execute-api:<region>:<account>:<api-id>/<stage>`) lets a resource policy use the short form
    `execute-api:/<stage>/<METHOD>/<path>`.
    Raises: `ConfigError` with all problems.
    """
    reader = _Reader(file, kind, route_arn)
    policy = reader.policy(compose(text, file=file))
    if reader.problems or policy is None:
        raise ConfigError(tuple(reader.problems))
    return policy


def closest(word: str, words: Iterable[str]) -> str:
    """`, did you mean ...?` for a misspelt word, or nothing."""
    known = {one.lower(): one for one in words}
    found = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f", did you mean `{known[found[0]]}`?" if found else ""


class _Reader:
    """Reads one document and collects what is wrong with it."""

    def __init__(self, file: str, kind: PolicyKind, route_arn: str | None) -> None:
        self._file = file
        self._kind = kind
        self._route = route_arn.split(":", 5) if route_arn else None
        self._variables = True
        self.problems: list[Problem] = []

    def _wrong(self, node: Node, message: str) -> None:
        self.problems.append(Problem(self._file, node.line, node.column, message))

    # --- shapes

    def _elements(self, node: Node, known: tuple[str, ...], what: str) -> dict[str, Node] | None:
        """The pairs of a mapping; unknown and repeated names are problems."""
        if not isinstance(node, Mapping):
            self._wrong(node, f"{what} must be a mapping")
            return None
        found: dict[str, Node] = {}
        for key, value in node.pairs:
            if key.text not in known:
                self._wrong(key, f"{what} has no element `{key.text}`{closest(key.text, known)}")
            elif key.text in found:
                self._wrong(key, f"`{key.text}` is given twice")
            else:
                found[key.text] = value
        return found

    def _text(self, node: Node, what: str) -> str | None:
        if not isinstance(node, Scalar):
            self._wrong(node, f"{what} must be a text")
        elif node.null or not node.text:
            self._wrong(node, f"{what} is empty")
        else:
            return node.text
        return None

    def _texts(self, node: Node, what: str, *, empty: bool = False) -> list[tuple[Scalar, str]]:
        """A text or a list of texts; `empty` lets a text be \"\", never the list."""
        items = node.items if isinstance(node, Listing) else [node]
        if not items:
            self._wrong(node, f"{what} is an empty list: an empty restriction never means all")
        found = []
        for item in items:
            if empty and isinstance(item, Scalar) and not item.null:
                found.append((item, item.text))
            elif isinstance(item, Scalar) and (text := self._text(item, what)) is not None:
                found.append((item, text))
            elif not isinstance(item, Scalar):
                self._wrong(item, f"{what} must be a text or a list of texts")
        return found

    def _either(self, elements: dict[str, Node], name: str, place: Node) -> tuple[Node | None, bool]:
        """Exactly one of an element and its `Not` form."""
        plain, negated = elements.get(name), elements.get(f"Not{name}")
        if plain is not None and negated is not None:
            self._wrong(negated, f"`{name}` and `Not{name}` exclude each other")
        elif plain is None and negated is None:
            self._wrong(place, f"the statement needs `{name}` or `Not{name}`")
        return (plain, False) if plain is not None else (negated, True)

    # --- elements

    def policy(self, root: Node) -> Policy | None:
        """The whole document."""
        elements = self._elements(root, _POLICY, "the policy")
        if elements is None:
            return None
        version = self._version(elements.get("Version"), root)
        self._variables = version == "2012-10-17"
        if "Id" in elements:
            self._text(elements["Id"], "`Id`")
        statement = elements.get("Statement")
        if statement is None:
            self._wrong(root, "the policy has no `Statement`")
            return None
        nodes = statement.items if isinstance(statement, Listing) else [statement]
        if not nodes:
            self._wrong(statement, "`Statement` is an empty list")
        statements: list[Statement] = []
        sids: dict[str, int] = {}
        for node in nodes:
            one = self._statement(node)
            if one is None:
                continue
            if one.sid is not None and one.sid in sids:
                self._wrong(node, f"the Sid `{one.sid}` is already that of the statement in line {sids[one.sid]}")
            elif one.sid is not None:
                sids[one.sid] = one.line
            statements.append(one)
        return Policy(file=self._file, kind=self._kind, version=version, statements=tuple(statements))

    def _version(self, node: Node | None, root: Node) -> Version:
        if node is None:
            self._wrong(root, "the policy has no `Version`: write `2012-10-17`")
        elif (text := self._text(node, "`Version`")) is not None:
            for version in _VERSIONS:
                if text == version:
                    return version
            self._wrong(node, f"`{text}` is no version of the policy language known here: write `2012-10-17`")
        return "2012-10-17"

    def _statement(self, node: Node) -> Statement | None:
        elements = self._elements(node, _STATEMENT, "the statement")
        if elements is None:
            return None
        sid = self._text(elements["Sid"], "`Sid`") if "Sid" in elements else None
        effect = self._effect(elements.get("Effect"), node)
        principals, not_principal = self._principal(elements, node)
        action, not_action = self._either(elements, "Action", node)
        resource, not_resource = self._either(elements, "Resource", node)
        actions = self._actions(action) if action else ()
        ours = match.covers_service(actions, not_action, context.OUR_SERVICES)
        return Statement(
            sid=sid,
            effect=effect,
            principals=principals,
            not_principal=not_principal,
            actions=actions,
            not_action=not_action,
            resources=self._resources(resource, ours=ours) if resource else (),
            not_resource=not_resource,
            conditions=self._conditions(elements["Condition"], ours=ours) if "Condition" in elements else (),
            line=node.line,
        )

    def _effect(self, node: Node | None, place: Node) -> StatementEffect:
        if node is None:
            self._wrong(place, "the statement has no `Effect`")
        elif (text := self._text(node, "`Effect`")) == "Allow":
            return "Allow"
        elif text is not None and text != "Deny":
            self._wrong(node, f"`Effect` must be `Allow` or `Deny`, not `{text}`")
        return "Deny"

    def _actions(self, node: Node) -> tuple[str, ...]:
        found = []
        for place, text in self._texts(node, "an action"):
            if problem := match.check_action(text):
                self._wrong(place, problem)
            else:
                found.append(text)
        return tuple(found)

    def _principal(self, elements: dict[str, Node], place: Node) -> tuple[tuple[str, ...], bool]:
        if self._kind == "identity":
            for name in ("Principal", "NotPrincipal"):
                if name in elements:
                    self._wrong(elements[name], f"`{name}` has no place in an identity policy: its grant says who")
            return (), False
        node, negated = self._either(elements, "Principal", place)
        if node is None:
            return (), negated
        tokens: list[str] = []
        if isinstance(node, Mapping):
            kinds = self._elements(node, _PRINCIPALS, "a principal") or {}
            if not node.pairs:
                self._wrong(node, "a principal without names never means everyone: write `*`")
            for kind, values in kinds.items():
                for item, text in self._texts(values, "a principal"):
                    self._token(tokens, item, kind, text)
        elif (whole := self._text(node, "a principal")) is not None and whole != EVERYONE:
            self._wrong(node, f'`{whole}` needs its type, such as {{"AWS": ...}} or {{"Federated": ...}}')
        else:
            tokens.append(EVERYONE)
        if negated and EVERYONE in tokens:
            self._wrong(node, "`NotPrincipal` with `*` selects nobody")
        return tuple(tokens), negated

    def _token(self, tokens: list[str], place: Node, kind: str, text: str) -> None:
        account = self._route[4] if self._route else None
        try:
            tokens.append(match.principal_token(kind, text, account=account))
        except ValueError as error:
            self._wrong(place, str(error))

    def _resources(self, node: Node, *, ours: bool) -> tuple[str, ...]:
        found = []
        for place, given in self._texts(node, "a resource"):
            text = given
            if text.startswith(_SHORT):
                if self._kind != "resource" or self._route is None:
                    self._wrong(place, f"the short form `{text}` only has a meaning in the policy of a route")
                    continue
                text = f"{':'.join(self._route[:5])}:{self._route[5].partition('/')[0]}/{text.removeprefix(_SHORT)}"
            try:
                pattern = match.arn(text, variables=self._variables)
            except ValueError as error:
                self._wrong(place, str(error))
                continue
            for token in pattern.last:
                if isinstance(token, glob.Variable):
                    self._variable(place, token.key, ours=ours)
            found.append(text)
        return tuple(found)

    # --- conditions

    def _conditions(self, node: Node, *, ours: bool) -> tuple[Condition, ...]:
        if not isinstance(node, Mapping):
            self._wrong(node, "`Condition` must be a mapping of operators")
            return ()
        if not node.pairs:
            self._wrong(node, "`Condition` is empty: leave it out if there is none")
        found: list[Condition] = []
        operators: set[str] = set()
        for name, block in node.pairs:
            shape = form(name.text)
            if shape is None:
                self._wrong(name, f"there is no operator `{name.text}`{closest(name.text, FORMS)}")
            elif name.text in operators:
                self._wrong(name, f"`{name.text}` is given twice")
            elif not isinstance(block, Mapping):
                self._wrong(block, f"`{name.text}` must be a mapping of condition keys")
            else:
                if not block.pairs:
                    self._wrong(block, f"`{name.text}` names no condition key")
                operators.add(name.text)
                found.extend(self._block(name.text, shape, block, ours=ours))
        return tuple(found)

    def _block(self, operator: str, shape: Form, block: Mapping, *, ours: bool) -> list[Condition]:
        found: list[Condition] = []
        seen: set[str] = set()
        for key, node in block.pairs:
            if key.text.lower() in seen:
                self._wrong(key, f"`{key.text}` is given twice")
                continue
            seen.add(key.text.lower())
            known = self._key(key, key.text, ours=ours)
            if known is not None:
                self._fits(key, operator, shape, known)
            values = []
            for place, text in self._texts(node, f"a value of `{key.text}`", empty=True):
                if self._value(place, shape, text, ours=ours):
                    values.append(text)
            found.append(Condition(operator=operator, key=key.text, values=tuple(values), line=key.line))
        return found

    def _fits(self, place: Node, operator: str, shape: Form, known: context.Key) -> None:
        family = shape.operator.family
        if known.multivalued and not shape.quantifier and family != "null":
            self._wrong(
                place,
                f"`{known.name}` can have several values: write `ForAnyValue:{operator}` (at least one matches) or "
                f"`ForAllValues:{operator}` (all do, or there are none)",
            )
        if family not in _FITTING[known.type]:
            names = [name for name in FORMS if ":" not in name and not name.endswith("IfExists")]
            fitting = [name for name in names if (row := form(name)) and row.operator.family == _FITTING[known.type][0]]
            self._wrong(
                place, f"`{operator}` cannot compare `{known.name}`: use {', '.join(f'`{n}`' for n in fitting)}"
            )

    def _value(self, place: Node, shape: Form, text: str, *, ours: bool) -> bool:
        try:
            check_value(shape.operator, text, variables=self._variables)
            for variable in variables_of(shape.operator, text, variables=self._variables):
                self._variable(place, variable.key, ours=ours)
        except ValueError as error:
            self._wrong(place, str(error))
            return False
        return True

    def _variable(self, place: Node, key: str, *, ours: bool) -> None:
        known = self._key(place, key, ours=ours)
        if known is not None and known.multivalued:
            self._wrong(place, f"`{key}` can have several values, so it cannot be a variable")

    def _key(self, place: Node, key: str, *, ours: bool) -> context.Key | None:
        known = context.describe(key)
        if known is None:
            near = context.suggest(key)
            self._wrong(place, f"there is no condition key `{key}`" + (f", did you mean `{near}`?" if near else ""))
        elif ours and context.of_other_service(key):
            self._wrong(place, f"`{key}` is never present here: no request to this proxy carries keys of that service")
        return known
