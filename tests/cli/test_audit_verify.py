"""`gateway audit verify` at the command line."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli.audit import command
from gateway.errors import UserError
from tests.audit.test_verify import flipped, lines_of, put, write


def run(directory: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["verify", "--directory", str(directory), *arguments])


def test_a_whole_log(tmp_path: Path) -> None:
    write(tmp_path)
    result = run(tmp_path)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "14 records in 1 journal (1 closed), 1 segment, 1 of them sealed.",
        "No signed checkpoint was verified.",
        "The log is whole, as far as it can tell by itself.",
    ]


def test_a_changed_record_and_a_killed_writer_are_told_apart(tmp_path: Path) -> None:
    killed, changed = write(tmp_path), write(tmp_path)
    put(killed, lines_of(killed)[:-1])
    flipped(changed, 4)
    result = run(tmp_path)
    assert result.exit_code == 1
    head, *lines = result.stdout.splitlines()
    assert head == "Neither the gateway nor a killed process leaves this:"
    assert f"  {changed.name} line 4 (byte " in result.stdout
    assert lines[-1] == "The log is NOT whole."
    put(changed, lines_of(changed)[:3])
    assert "What killed writers, full disks and power failures leave:" in run(tmp_path).stdout


def test_one_json_object_a_line(tmp_path: Path) -> None:
    path = write(tmp_path)
    flipped(path, 4)
    result = run(tmp_path, "--json")
    assert result.exit_code == 1
    finding, journal, summary = map(json.loads, result.stdout.splitlines())
    assert (finding["kind"], finding["code"], finding["line"]) == ("finding", "changed", 4)
    assert (journal["kind"], journal["records"]) == ("journal", 14)
    assert (summary["kind"], summary["clean"], summary["records"]) == ("summary", False, 14)


def test_many_of_one_kind_are_counted(tmp_path: Path) -> None:
    for _ in range(13):
        path = write(tmp_path)
        put(path, lines_of(path)[:-1])
        (tmp_path / "heads.json").unlink()
    (tmp_path / "journal").joinpath(path.name).unlink()
    result = run(tmp_path)
    assert result.stdout.count("there is no closing record") == 10
    assert "... and 2 more of the kind unclosed" in result.stdout
    assert len(run(tmp_path, "--json").stdout.splitlines()) > 24


def test_what_keeps_it_from_running(tmp_path: Path) -> None:
    for arguments, told in (
        (["--directory", str(tmp_path / "none")], "no audit log here"),
        (["--directory", str(tmp_path), "--key", "a+b+c"], "not a public key"),
        (["--directory", str(tmp_path), "--key", "nothing"], "neither a public key nor a file"),
    ):
        with pytest.raises(UserError, match=told):
            CliRunner().invoke(command, ["verify", *arguments], catch_exceptions=False)
