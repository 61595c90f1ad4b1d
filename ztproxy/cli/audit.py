"""`ztproxy audit`: is the record what was sealed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from ztproxy.audit.verify import Report

BROKEN: Final = 1


def default_spool(environment: Mapping[str, str]) -> Path:
    """Where the spool lies unless configured: below systemd's state directory, else the XDG state folder."""
    state = environment.get("STATE_DIRECTORY", "").partition(":")[0]
    if state:
        return Path(state) / "audit"
    home = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "ztproxy" / "audit"


@click.group("audit")
def command() -> None:
    """Verify the chain of audit records."""


@command.command("verify")
@click.argument("directory", required=False, metavar="[DIR]", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="What to print.")
@click.pass_context
def verify_command(context: click.Context, directory: Path | None, output: str) -> None:
    """Check every record of the spool in DIR: changed, removed, inserted, reordered, truncated?

    Exits 0 when the chain is intact, 1 when it is broken, 2 when there is nothing to verify.
    """
    from ztproxy.audit.verify import verify

    spool = directory or default_spool(os.environ)
    try:
        report = verify(spool)
    except OSError as error:
        raise click.UsageError(f"cannot read the spool `{spool}`: {error.strerror}") from None
    if not report.chains:
        raise click.UsageError(f"no segment in `{spool}`: it is no spool, or everything was taken away")
    if output == "json":
        import orjson

        click.echo(orjson.dumps(_document(spool, report), option=orjson.OPT_INDENT_2))
    else:
        click.echo("\n".join(_lines(spool, report)))
    context.exit(0 if report.intact else BROKEN)


def _lines(spool: Path, report: Report) -> list[str]:
    from ztproxy.audit.verify import TAIL_NOTE

    segments = sum(chain.segments for chain in report.chains)
    amount = f"{report.records} records in {segments} segments of `{spool}`"
    found = sum(number for _, number in report.counts)
    lines = [f"intact: {amount}" if report.intact else f"BROKEN: {found} faults in {amount}"]
    for chain in report.chains:
        lines.append(f"chain {chain.chain}: {chain.records} records, last seq {chain.last_seq}, head {chain.head}")
    lines.extend(str(fault) for fault in report.faults)
    if found > len(report.faults):
        lines.append("in all: " + ", ".join(f"{kind.value} {number}" for kind, number in report.counts))
    lines.append(f"note: {TAIL_NOTE}")
    if report.intact:
        lines.append("next: compare `last seq` and `head` with a copy kept on another machine, and keep this one there")
    elif all(kind.value == "torn-tail" for kind, _ in report.counts):
        lines.append("next: start the proxy, which cuts the unfinished line and records that; then verify again")
    else:
        lines.append("next: keep this directory as evidence, point `audit.spool` at an empty one, restore from a copy")
    return lines


def _document(spool: Path, report: Report) -> dict[str, Any]:
    from ztproxy.audit.verify import TAIL_NOTE

    return {
        "chains": [
            {
                "chain": chain.chain,
                "head": chain.head,
                "last_seq": chain.last_seq,
                "records": chain.records,
                "segments": chain.segments,
            }
            for chain in report.chains
        ],
        "counts": {kind.value: number for kind, number in report.counts},
        "faults": [
            {
                "kind": fault.kind.value,
                "line": fault.line,
                "message": fault.message,
                "segment": fault.segment,
                "seq": fault.seq,
            }
            for fault in report.faults
        ],
        "intact": report.intact,
        "note": TAIL_NOTE,
        "records": report.records,
        "size_bytes": report.size_bytes,
        "spool": str(spool),
    }
