"""`gateway audit verify`: whether the log is whole, and where it first is not."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import click
import msgspec

from gateway.audit.checkpoint_files import read_checkpoints, read_kept
from gateway.audit.files import checkpoints_file
from gateway.audit.notes import Verifier
from gateway.audit.signing_keys import read_verifiers, verifiers_file
from gateway.audit.verify.findings import LISTED, Finding, Report
from gateway.audit.verify.verification import Anchored, verify
from gateway.cli import output
from gateway.cli.audit_options import audit_directory
from gateway.errors import UserError

EXIT_FINDINGS: Final = 1
_HEADINGS: Final = {
    "tampering": "Neither the gateway nor a killed process leaves this:",
    "crash": "What killed writers, full disks and power failures leave:",
    "note": "Worth knowing:",
}


@click.command(name="verify")
@click.argument("bundle", required=False, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--anchored",
    "anchored",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    help="Also by the checkpoints in this file, which was kept elsewhere.",
)
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="KEY",
    help="Trust only this public key (NAME+ID+KEY, or a file of such lines), not those beside "
    "the log.",
)
@click.option(
    "--processes",
    type=click.IntRange(min=1, max=64),
    default=os.cpu_count() or 1,
    help="How many to read with. Default: one for each processor.",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    help="The audit directory, if not the configured one.",
)
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration. Default: gateway.yaml here or above, else .mcp.json.",
)
@click.option(
    "--store",
    metavar="REFERENCE",
    help="Verify the copies in PostgreSQL: ${VAR} or ${file:PATH} that holds its URL.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_context
def verify_log(
    ctx: click.Context,
    bundle: Path | None,
    anchored: Sequence[Path],
    keys: Sequence[str],
    processes: int,
    directory: Path | None,
    config: Path | None,
    store: str | None,
    *,
    as_json: bool,
) -> None:
    """Verify the log: chains, what journals say of each other, signed checkpoints.

    Names the first bad record of each journal, missing journals and segments, cut ends, and what
    crashes left. The exit code is 1 if the log was tampered with, 0 if not, whatever crashed.

    BUNDLE is what `gateway audit bundle` made, and needs no log and no configuration. Whose it is
    only --key can tell: name the key that its maker gave you.
    """
    if store is not None:
        from gateway.cli.audit_store import verified_store  # most logs have no such store

        report = verified_store(store, trusted_keys(keys), anchored, processes)
    elif bundle is not None and bundle.is_file():
        report = verified_bundle(bundle, trusted_keys(keys), anchored, processes)
    else:
        where = bundle or directory or audit_directory(config)
        if not where.is_dir():
            raise UserError("there is no audit log here; name its directory", path=str(where))
        verifiers = trusted_keys(keys) if keys else read_verifiers(verifiers_file(where))
        report = verified(where, verifiers, anchored, processes)
    show(report, as_json=as_json)
    ctx.exit(0 if report.clean else EXIT_FINDINGS)


def trusted_keys(texts: Sequence[str]) -> list[Verifier]:
    """The public keys that `--key` names. Raises UserError for one that is none."""
    keys: list[Verifier] = []
    for text in texts:
        if "+" in text and not Path(text).exists():
            try:
                keys.append(Verifier.parse(text))
            except ValueError as error:
                raise UserError(f"--key is not a public key: {error}") from error
        else:
            path = Path(text)
            if not path.exists():
                raise UserError("--key names neither a public key nor a file", path=text)
            keys += read_verifiers(path)
    return keys


def verified(
    where: Path,
    verifiers: Sequence[Verifier],
    anchored: Sequence[Path],
    processes: int = 1,
    *,
    running: Sequence[str] | None = None,
) -> Report:
    """The report on the audit directory `where`. Raises UserError when it cannot be read."""
    beside = checkpoints_file(where)
    notes = notes_in((*([beside] if beside.exists() else []), *anchored))
    try:
        try:
            report = verify(where, verifiers, notes, processes=processes, running=running)
        except FileNotFoundError:  # pruned just now
            report = verify(where, verifiers, notes, processes=processes, running=running)
    except OSError as error:
        raise UserError(
            f"the log cannot be read: {error.strerror}", path=str(error.filename or where)
        ) from error
    failures = _anchor_failures(report, beside) if beside.exists() else ()
    return msgspec.structs.replace(report, findings=(*report.findings, *failures))


def verified_bundle(
    bundle: Path, verifiers: Sequence[Verifier], anchored: Sequence[Path], processes: int = 1
) -> Report:
    """The report on a bundle of evidence. Raises UserError when it is none."""
    from gateway.audit.bundles import judged, opened_bundle, read_manifest

    with opened_bundle(bundle) as where:
        manifest = read_manifest(where)
        keys = list(verifiers) or read_verifiers(verifiers_file(where))
        report = verified(where, keys, anchored, processes, running=manifest.open)
        findings = [*judged(where, manifest, keys), *report.findings]
        if not verifiers and keys:
            findings.append(
                Finding(
                    severity="note",
                    code="own-keys",
                    journal="",
                    message="signatures were verified by the keys in the bundle itself, which "
                    "proves nothing of who made it; name the key that you know with --key",
                )
            )
        return msgspec.structs.replace(report, findings=tuple(findings))


def _anchor_failures(report: Report, beside: Path) -> Iterator[Finding]:
    """Failures of anchors that no journal tells of: of the last checkpoints, at a gateway's end."""
    told = {each.journal for each in report.findings if each.code == "anchor-failed"}
    for kept in read_kept(beside):
        if kept.failed is not None and kept.journal not in told:
            yield Finding(
                severity="note",
                code="anchor-failed",
                journal=kept.journal,
                message=f"a checkpoint was not taken by {kept.anchor}: {kept.failed}",
            )


def notes_in(paths: Iterable[Path]) -> list[Anchored]:
    """The checkpoints in files that were kept beside the log or elsewhere."""
    return [
        Anchored(note, f"{path.name} line {line}")
        for path in paths
        for note, line in read_checkpoints(path)
    ]


def show(report: Report, *, as_json: bool) -> None:
    """Print the report."""
    if as_json:
        for finding in report.findings:
            output.print_json_line({"kind": "finding", **msgspec.to_builtins(finding)})
        for journal in report.journals:
            output.print_json_line({"kind": "journal", **msgspec.to_builtins(journal)})
        summary = {
            "kind": "summary",
            "clean": report.clean,
            "journals": len(report.journals),
            "records": report.records,
            "signed_records": sum(journal.signed_records for journal in report.journals),
            "unknown_outcomes": report.unknown_outcomes,
            "keys": list(report.keys),
        }
        output.print_json_line(summary)
        return
    for severity, heading in _HEADINGS.items():
        found = [finding for finding in report.findings if finding.severity == severity]
        if found:
            output.print_line(heading)
            for line in _listed(found):
                output.print_line(f"  {line}")
    for line in _summary(report):
        output.print_line(line)


def _listed(findings: Sequence[Finding]) -> Iterator[str]:
    """A line for each, but of one kind not more than are read."""
    number: dict[str, int] = {}
    for finding in findings:
        number[finding.code] = number.get(finding.code, 0) + 1
        if number[finding.code] <= LISTED:
            yield _told(finding)
    for code, count in number.items():
        if count > LISTED:
            yield f"... and {count - LISTED} more of the kind {code}; --json has them all"


def _told(finding: Finding) -> str:
    place = finding.place
    return f"{place}: {finding.message}" if place else finding.message


def _summary(report: Report) -> Iterator[str]:
    journals = report.journals
    segments = sum(journal.segments for journal in journals)
    sealed = sum(journal.sealed for journal in journals)
    states = ", ".join(
        f"{number} {state}"
        for state in ("closed", "ended", "open", "shared", "pruned")
        if (number := sum(journal.state == state for journal in journals))
    )
    yield (
        f"{report.records} records in {_number(len(journals), 'journal')}"
        + (f" ({states})" if states else "")
        + f", {_number(segments, 'segment')}, {sealed} of them sealed."
    )
    checkpoints = sum(journal.checkpoints for journal in journals)
    if report.keys:
        signed = sum(journal.signed_records for journal in journals)
        yield (
            f"{_number(checkpoints, 'checkpoint')} verified, over {signed} records, by "
            f"{', '.join(report.keys)}."
        )
    else:
        yield "No signed checkpoint was verified."
    if report.clean:
        yield "The log is whole, as far as it can tell by itself."
    else:
        yield "The log is NOT whole."


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
