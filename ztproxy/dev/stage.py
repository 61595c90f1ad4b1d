"""The whole demo on one machine: issuer and sample API in this process, the proxy as a process of its own.

The proxy is the real thing, `ztproxy serve` with a configuration file anybody may read and change in the state folder:
nothing here knows how it works inside, only its configuration and the line it prints when it is ready. It gets its own
session, so that Ctrl-C reaches this process alone, which then stops the proxy by its process id and waits for it.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ztproxy.dev.api import OrdersApi
from ztproxy.dev.ca import Pki, ensure_pki, write_private
from ztproxy.dev.loopback import LOOPBACK, serving
from ztproxy.dev.oidc import AUDIENCE, CLIENT_ID, PERSONAS, OidcIssuer
from ztproxy.dev.state import AccessKey, DemoError, DemoNote, StateFolder, note_to_json
from ztproxy.types import Secret

ACCOUNT: Final = "111122223333"
REGION: Final = "eu-west-1"
SERVICE: Final = "execute-api"
MACHINE: Final = "ci"
ACCESS_KEY_ID: Final = "ZTPROXYDEMOACCESSKEY"
READY_LINE: Final = b"ztproxy listening on"
READY_WITHIN_S: Final = 8.0
STOPPED_WITHIN_S: Final = 8.0
POLL_S: Final = 0.02
LOG_TAIL_BYTES: Final = 2000
_ENVIRONMENT_OF_CONFIG: Final = "ZTPROXY__"

Say = Callable[[str], None]


@dataclass(kw_only=True)
class Stage:
    """A running demo; `proxy` is the child process."""

    folder: StateFolder
    note: DemoNote
    issuer: OidcIssuer
    api: OrdersApi
    proxy: Process = field(repr=False)

    async def stop_proxy(self) -> int:
        """Stop the proxy gracefully, by force when it takes too long; gives its exit status, negative for a signal."""
        return await _stop(self.proxy)


@asynccontextmanager
async def staged(folder: StateFolder, port: int | None, say: Say) -> AsyncIterator[Stage]:
    """The demo, up while the context lasts; `port` None takes a free one, `say` hears each part as it stands.

    Raises: `DemoError` when a part cannot start.
    """
    with folder.held():
        try:
            proxy_port = _free_port(port)
            pki = ensure_pki(folder.tls, (*PERSONAS, MACHINE), datetime.now(UTC))
            access_key = _ensure_access_key(folder)
        except OSError as error:
            raise DemoError(f"the state folder `{folder.path}` cannot be used: {error.strerror}") from error
        say("dev CA and certificates")
        issuer, api = OidcIssuer(), OrdersApi()
        async with issuer.serving():
            users = ", ".join(f"{person.name} ({person.role})" for person in PERSONAS.values())
            say(f"dev identity provider   users: {users}")
            async with serving(api.application()) as api_port:
                say('sample API "orders"')
                note = _note(proxy_port, pki, issuer, access_key)
                _write_config(folder, pki, issuer, proxy_port, api_port)
                proxy = await _start_proxy(folder)
                try:
                    await _until_ready(proxy, folder.log)
                    write_private(folder.note, note_to_json(note))
                    say(f"proxy {note.url}")
                    yield Stage(folder=folder, note=note, issuer=issuer, api=api, proxy=proxy)
                finally:
                    await _stop(proxy)


def config_text(pki: Pki, issuer: OidcIssuer, proxy_port: int, api_port: int, folder: StateFolder) -> str:
    """The proxy's configuration, as a person would write it."""

    def file(path: Path) -> str:
        return json.dumps(f"file:{path.relative_to(folder.path)}")

    return f"""\
# The demo's own configuration, written anew at every start. Try: ztproxy check {folder.config}
version: 1
arn: {{partition: aws, region: {REGION}, account: "{ACCOUNT}"}}

listeners:
  - name: edge
    bind: {LOOPBACK}:{proxy_port}
    protocol: http
    tls:
      certificate: {file(pki.edge.certificate)}
      key: {file(pki.edge.key)}
      client_certificates:
        mode: optional      # the route demands one: who comes without is told so, instead of a broken handshake
        authorities: [{{name: staff, ca: {file(pki.staff_ca)}}}]

issuers:
  - name: corp
    issuer: {issuer.url}
    audiences: ["{AUDIENCE}"]
    claims: {{subject: email, groups: groups}}
    jwks: {issuer.jwks_url}

access_keys:
  - {{id: {ACCESS_KEY_ID}, secret: "file:keys/{MACHINE}.secret", user: {MACHINE}}}
sigv4: {{regions: [{REGION}], services: [{SERVICE}]}}

routes:
  - name: orders
    stage: prod
    host: localhost
    path: /**
    authenticate: {{all_of: [certificate], any_of: [corp, sigv4]}}
    policy: policies/orders.yaml
    upstream: {{url: "http://{LOOPBACK}:{api_port}"}}
    audit: buffered
    deny_detail: reason     # what a refused caller learns: id | reason | full

audit: {{spool: {json.dumps(folder.spool.name)}}}
"""


def policy_text(issuer_url: str) -> str:
    """Who may do what with orders, as an IAM document in YAML."""
    return f"""\
# IAM policy language, as on API Gateway: an explicit deny wins, silence denies.
Version: "2012-10-17"
Statement:
  - Sid: DevelopersRead
    Effect: Allow
    Principal: {{Federated: "{issuer_url}"}}
    Action: execute-api:Invoke
    Resource: [execute-api:/prod/GET/orders, execute-api:/prod/GET/orders/*]
    Condition: {{"ForAnyValue:StringEquals": {{"ztproxy:groups": dev}}}}

  - Sid: AdminsDoEverything
    Effect: Allow
    Principal: {{Federated: "{issuer_url}"}}
    Action: execute-api:Invoke
    Resource: execute-api:/prod/*
    Condition: {{"ForAnyValue:StringEquals": {{"ztproxy:groups": admin}}}}

  - Sid: BuildMachineReads
    Effect: Allow
    Principal: {{AWS: "arn:aws:iam::{ACCOUNT}:user/{MACHINE}"}}
    Action: execute-api:Invoke
    Resource: execute-api:/prod/GET/orders/*

  - Sid: LegalHold
    Effect: Deny
    Principal: "*"
    Action: execute-api:Invoke
    Resource: [execute-api:/prod/DELETE/orders/7, execute-api:/prod/POST/orders/7]
"""


def _write_config(folder: StateFolder, pki: Pki, issuer: OidcIssuer, proxy_port: int, api_port: int) -> None:
    folder.policies.mkdir(mode=0o700, exist_ok=True)
    folder.spool.mkdir(mode=0o700, exist_ok=True)
    write_private(folder.policies / "orders.yaml", policy_text(issuer.url).encode())
    write_private(folder.config, config_text(pki, issuer, proxy_port, api_port, folder).encode())


def _ensure_access_key(folder: StateFolder) -> AccessKey:
    folder.keys.mkdir(mode=0o700, exist_ok=True)
    path = folder.keys / f"{MACHINE}.secret"
    if not path.exists():
        write_private(path, secrets.token_urlsafe(30).encode())
    return AccessKey(id=ACCESS_KEY_ID, secret=Secret(path.read_bytes()), region=REGION, service=SERVICE)


def _note(port: int, pki: Pki, issuer: OidcIssuer, access_key: AccessKey) -> DemoNote:
    return DemoNote(
        url=f"https://localhost:{port}",
        ca=pki.edge_ca.absolute(),
        token_url=issuer.token_url,
        client_id=CLIENT_ID,
        client_secret=issuer.client_secret,
        audience=AUDIENCE,
        people={name: (files.certificate.absolute(), files.key.absolute()) for name, files in pki.people.items()},
        access_keys={MACHINE: access_key},
    )


def _free_port(wanted: int | None) -> int:
    """The wanted port if nobody has it, else any free one; the proxy binds it again a moment later."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, wanted or 0))
            probe.listen(1)
        except OSError as error:
            raise DemoError(f"port {wanted} cannot be had ({error.strerror}); choose another with --port") from error
        return int(probe.getsockname()[1])


def proxy_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what would change the demo's configuration from outside."""
    return {name: value for name, value in environment.items() if not name.startswith(_ENVIRONMENT_OF_CONFIG)}


def proxy_command(config: Path) -> tuple[str, ...]:
    """How the proxy is started: as anybody would."""
    return sys.executable, "-m", "ztproxy", "serve", "-c", str(config)


async def _start_proxy(folder: StateFolder) -> Process:
    # a file and not a pipe: nobody has to keep reading it, and it is there afterwards
    write_private(folder.log, b"")
    with folder.log.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *proxy_command(folder.config),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=proxy_environment(os.environ),
            start_new_session=True,
        )


async def _until_ready(proxy: Process, log: Path) -> None:
    try:
        async with asyncio.timeout(READY_WITHIN_S):
            while not _is_ready(log):
                if proxy.returncode is not None:
                    raise DemoError(f"the proxy ended with status {proxy.returncode}{log_tail(log)}")
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise DemoError(f"the proxy was not ready within {READY_WITHIN_S:g} s{log_tail(log)}") from None


def _is_ready(log: Path) -> bool:
    return any(line.startswith(READY_LINE) for line in log.read_bytes().splitlines())


async def _stop(proxy: Process) -> int:
    if proxy.returncode is None:
        with suppress(ProcessLookupError):
            proxy.terminate()
        try:
            async with asyncio.timeout(STOPPED_WITHIN_S):
                return await proxy.wait()
        except TimeoutError:
            proxy.kill()
    return await proxy.wait()


def log_tail(log: Path) -> str:
    """The end of the proxy's log, to put behind a message; empty when there is nothing."""
    text = log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
    lines = ("".join(sign if sign.isprintable() else "?" for sign in line) for line in text.splitlines())
    return ":\n  " + "\n  ".join(lines) if text else f"; see {log}"
