"""Findings keep their place and their order."""

from __future__ import annotations

from pathlib import Path

from tests.config.sample import WHOLE, loaded
from ztproxy.config.findings import Findings


def test_problems_and_warnings_are_apart(folder: Path) -> None:
    findings = Findings(loaded(folder, WHOLE))
    findings.warn(("routes", 0, "host"), "late")
    findings.warn(("version",), "early")
    findings.refuse(("arn", "account"), "is odd")
    findings.unknown(("routes", 0), "issuer", "crop", ("corp",))
    findings.unknown(("routes", 0), "issuer", "zzz", ("corp",))
    assert [w.message for w in findings.warnings] == ["version: early", "routes.0.host: late"]
    assert [p.message for p in findings.problems] == [
        "arn.account: is odd",
        "routes.0: no issuer is called `crop`; did you mean `corp`?",
        "routes.0: no issuer is called `zzz`",
    ]
