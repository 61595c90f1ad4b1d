#!/usr/bin/env python3
"""Writes the configuration under which ztproxy is measured against its peers.

usage: harness.py WORK PKI UPSTREAM_PORT [buffered|required]

PKI holds `server-ec.crt|key`, `ca.crt`, `jwks.json` and `bench.json` (issuer, audience, access key). What is measured
is what a real deployment runs: mTLS, a token or signature on every request, a resource policy with network and claim
conditions beside statements that do not match, identity fields to the upstream, sealed audit.
"""

import json
import sys
from pathlib import Path

_OTHER_TEAMS = 12
"""Statements for callers and paths that are not the measured ones, as a grown policy has them."""


def _policy(issuer: str) -> dict[str, object]:
    principal = {"Federated": issuer}
    at_work = {"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "127.0.0.0/8"]}}
    statements: list[dict[str, object]] = [
        {
            "Sid": f"Team{number}",
            "Effect": "Allow",
            "Principal": principal,
            "Action": "execute-api:Invoke",
            "Resource": f"execute-api:/prod/GET/teams/{number}/*",
            "Condition": {"ForAnyValue:StringEquals": {"ztproxy:groups": f"team-{number}"}, **at_work},
        }
        for number in range(_OTHER_TEAMS)
    ]
    statements += [
        {
            "Sid": "NoContractors",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "execute-api:Invoke",
            "Resource": "execute-api:/prod/*",
            "Condition": {"ForAnyValue:StringEquals": {"ztproxy:groups": "contractors"}},
        },
        {
            "Sid": "Engineers",
            "Effect": "Allow",
            "Principal": principal,
            "Action": "execute-api:Invoke",
            "Resource": [
                *(f"execute-api:/prod/{method}/api/*" for method in ("GET", "POST", "PUT")),
                "execute-api:/prod/GET/big",
                "execute-api:/prod/POST/upload",
            ],
            "Condition": {
                "ForAnyValue:StringEquals": {"ztproxy:groups": "eng"},
                "StringLike": {"ztproxy:Claim/email": "*@bench.test"},
                "Bool": {"aws:SecureTransport": "true"},
                **at_work,
            },
        },
        {
            "Sid": "Pipeline",
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::111122223333:user/bench"},
            "Action": "execute-api:Invoke",
            "Resource": "execute-api:/prod/*",
            "Condition": at_work,
        },
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def main(work: Path, pki: Path, upstream_port: int, audit: str) -> None:
    """Writes `zt.yaml`, its policy and its secret into the work folder."""
    bench = json.loads((pki / "bench.json").read_text())
    folder = work / f"ztproxy-{audit}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.json").write_text(json.dumps(_policy(bench["iss"]), indent=1))
    (folder / "secret").write_text(bench["secret"])
    configuration = {
        "version": 1,
        "arn": {"region": bench["region"], "account": "111122223333"},
        "listeners": [
            {
                "name": "edge",
                "bind": "127.0.0.1:8443" if audit == "buffered" else "127.0.0.1:8445",
                "protocol": "http",
                "tls": {
                    "certificate": f"file:{pki}/server-ec.crt",
                    "key": f"file:{pki}/server-ec.key",
                    "client_certificates": {
                        "mode": "required",
                        "authorities": [{"name": "bench", "ca": f"file:{pki}/ca.crt"}],
                    },
                },
                "timeouts": {"idle_s": 600},
            }
        ],
        "issuers": [
            {
                "name": "bench",
                "issuer": bench["iss"],
                "audiences": [bench["aud"]],
                "jwks": f"file:{pki}/jwks.json",
            }
        ],
        "access_keys": [{"id": bench["akid"], "secret": f"file:{folder}/secret", "user": "bench"}],
        "sigv4": {"services": [bench["service"]]},
        "routes": [
            {
                "name": "api",
                "host": "localhost",
                "authenticate": {"all_of": ["certificate"], "any_of": ["bench", "sigv4"]},
                "policy": str(folder / "policy.json"),
                "upstream": {"url": f"http://127.0.0.1:{upstream_port}", "pool": {"max_connections": 256}},
                "limits": {"body_bytes": 2 * 1024**3},
                "audit": audit,
            }
        ],
        "audit": {"spool": str(folder / "audit")},
    }
    (folder / "zt.yaml").write_text(json.dumps(configuration, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else "buffered")
