"""The record of a permission that is given again and again: all but what each request adds is serialised once."""

from __future__ import annotations

from typing import Any, Final

from orjson import Fragment

from ztproxy.audit.record import ALLOWED, TARGET_MAX, decided
from ztproxy.types import Decision


class AllowedPattern:
    """`access.decided` for one caller, connection, route and decision: all of it but what each request adds.

    Where the same caller asks again on the same connection, only six values change; the rest is serialised once.
    """

    __slots__ = ("_arguments", "_parts")

    def __init__(
        self,
        *,
        network: Fragment,
        identity: Fragment,
        route: str,
        action: str,
        decision: Decision,
        generation: int,
    ) -> None:
        self._arguments: Final[dict[str, Any]] = {
            "network": network,
            "identity": identity,
            "route": route,
            "action": action,
            "decision": decision,
            "generation": generation,
            "code": ALLOWED,
        }
        text = decided(
            request_id="\0", at_ms=0, method="\0", host="\0", path="\0", resource="\0", **self._arguments
        ).decode()
        before, rest = text.split('"at":0,', 1)
        parts, lead = [before + '"at":'], ","
        for key in ("host", "id", "method", "path", "resource"):
            # Text inside a value has its quotes escaped, so this can only be the key itself.
            between, rest = rest.split(f'"{key}":"\\u0000"', 1)
            parts.append(f'{lead}{between}"{key}":"')
            lead = '"'
        self._parts: Final = (*parts, lead + rest)

    def body(self, *, request_id: str, at_ms: int, method: str, host: str, path: str, resource: str) -> bytes:
        """The body, byte for byte as `decided` makes it."""
        plain = resource.isascii() and resource.isprintable() and host.isascii() and host.isprintable()
        if not plain or '"' in resource or "\\" in resource or '"' in host or len(resource) > TARGET_MAX:
            return decided(
                request_id=request_id,
                at_ms=at_ms,
                method=method,
                host=host,
                path=path,
                resource=resource,
                **self._arguments,
            )
        before, to_host, to_id, to_method, to_path, to_resource, after = self._parts
        return (
            f"{before}{at_ms}{to_host}{host}{to_id}{request_id}{to_method}{method}"
            f"{to_path}{path}{to_resource}{resource}{after}"
        ).encode()
