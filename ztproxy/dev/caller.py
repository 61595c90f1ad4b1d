"""The demo seen from its clients: a token from the issuer, a request through the proxy, a configuration for curl.

Only the standard library is needed, so that `ztproxy curl` starts quickly. Nothing secret goes on a command line,
where every user of the machine can read it: curl gets its options as the text of a `-K` file.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from ztproxy.dev.state import PERSONA_GRANT, AccessKey, DemoError, DemoNote, NotRunning
from ztproxy.types import Secret

TIMEOUT_S: Final = 5.0
MAX_ANSWER_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back; field names are lower case, of repeated fields the last stands."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Mapping[str, Any]:
        """The body as a JSON object; an empty one for anything else."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


def fetch_token(note: DemoNote, name: str) -> Secret:
    """A fresh token for this person from the demo's issuer.

    Raises: `NotRunning` when nothing answers; `DemoError` when the issuer refuses.
    """
    client = base64.b64encode(note.client_id.encode() + b":" + note.client_secret.reveal()).decode()
    form = urlencode({"grant_type": PERSONA_GRANT, "persona": name, "audience": note.audience})
    address = urlsplit(note.token_url)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)
    headers = {"Authorization": f"Basic {client}", "Content-Type": "application/x-www-form-urlencoded"}
    try:
        reply = _exchange(connection, "POST", address.path, headers, form.encode())
    except (OSError, HTTPException) as error:
        raise NotRunning("the demo's identity provider does not answer; start the demo again") from error
    token = reply.json.get("access_token")
    if reply.status != 200 or not isinstance(token, str):
        raise DemoError(f"the demo's identity provider gave no token for `{name}` (status {reply.status})")
    return Secret(token.encode())


def send(
    note: DemoNote,
    method: str,
    path: str,
    *,
    certificate_of: str | None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Reply:
    """One request through the proxy on a connection of its own, with this person's certificate or none.

    Raises: `OSError`, `HTTPException`.
    """
    address = urlsplit(note.url)
    context = ssl.create_default_context(cafile=note.ca)
    if certificate_of is not None:
        certificate, key = note.people[certificate_of]
        context.load_cert_chain(certificate, key)
    connection = HTTPSConnection(address.hostname or "", address.port, timeout=TIMEOUT_S, context=context)
    return _exchange(connection, method, path, headers)


def curl_config(note: DemoNote, name: str, path: str, token: Secret | None) -> bytes:
    """The text of a `-K` file that sends to `path` as this person; without a token it signs with an access key.

    Raises: `DemoError` for a path curl could not be given.
    """
    if not path.startswith("/") or " " in path:
        raise DemoError(f"`{ascii(path)[1:-1]}` is no path: it begins with `/`, and a blank in it is `%20`")
    certificate, key = note.people[name]
    lines = [
        "silent",
        "show-error",
        "globoff",
        # whatever else is typed, these credentials only ever travel to this proxy
        f"connect-to = {_quoted('::127.0.0.1:' + str(urlsplit(note.url).port))}",
        'noproxy = "*"',
        'proto = "=https"',
        f"cacert = {_quoted(str(note.ca))}",
        f"cert = {_quoted(str(certificate))}",
        f"key = {_quoted(str(key))}",
        *_proof(note, name, token),
        # the status goes to stderr, so that the body can be piped
        'write-out = "%{stderr}HTTP %{http_code}\\n"',
        f"url = {_quoted(note.url + path)}",
    ]
    return ("\n".join(lines) + "\n").encode()


def _proof(note: DemoNote, name: str, token: Secret | None) -> list[str]:
    if token is not None:
        return [f"header = {_quoted('Authorization: Bearer ' + token.reveal().decode())}"]
    key: AccessKey = note.access_keys[name]
    return [
        f"aws-sigv4 = {_quoted(f'aws:amz:{key.region}:{key.service}')}",
        f"user = {_quoted(f'{key.id}:{key.secret.reveal().decode()}')}",
    ]


def _quoted(value: str) -> str:
    """As a curl configuration value: quotes and backslashes escaped, nothing that could end the line."""
    if not value.isprintable():
        raise DemoError(f"`{ascii(value)[1:-1]}` holds a control character, which curl cannot be given")
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _exchange(
    connection: HTTPConnection, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
) -> Reply:
    try:
        connection.request(method, path, body=body, headers=dict(headers))
        response = connection.getresponse()
        return Reply(
            status=response.status,
            headers={field.lower(): value for field, value in response.getheaders()},
            body=response.read(MAX_ANSWER_BYTES),
        )
    finally:
        connection.close()
