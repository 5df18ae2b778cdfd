"""`gateway pin`: notes what tools are now, and shows a person what of them has changed since."""

import difflib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click
import msgspec

from gateway.catalog.listing import TEXT_MEMBERS
from gateway.catalog.pins import MemberChange, compare_definitions
from gateway.cli.asking import ask_upstreams
from gateway.cli.definitions import of_texts, reached
from gateway.cli.notes import Note
from gateway.cli.output import print_json_line, print_line
from gateway.cli.trust import require_person
from gateway.config.load import Loaded, load
from gateway.config.lock import Lock, LockedUpstream, encode_lock, lock_of, locked, write_lock
from gateway.errors import UserError
from gateway.policy.decide import decide
from gateway.policy.snapshot import Snapshot
from gateway.policy.values import Action, Context
from gateway.relay.survey import Surveyed

EXIT_DIFFERENT = 1


class Change(msgspec.Struct, frozen=True):
    """What would be pinned otherwise; `tool` is a tool id, "" for the upstream's instructions.

    "+": pinned for the first time, "-": not any more, "~": otherwise, in these `members`.
    """

    sign: str
    upstream: str
    tool: str
    members: tuple[MemberChange, ...] = ()
    definition: Mapping[str, object] = {}


@click.command(name="pin")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration. Default: gateway.yaml here or above, else .mcp.json.",
)
@click.argument("upstreams", metavar="[UPSTREAM]...", nargs=-1)
@click.option("--review", is_flag=True, help="Show what differs from the lock, ask, and write it.")
@click.option("--yes", is_flag=True, help="With --review: write it without being asked.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def command(
    config: Path | None, upstreams: tuple[str, ...], review: bool, yes: bool, as_json: bool
) -> int:
    """Pin the definitions of all tools that an agent may reach, in gateway.lock.

    Asks every upstream, or those that are named, for its tools. The first time, what they are is
    written beside the configuration. From then on a tool whose schemas or annotations are not as
    pinned is withheld, until a person has looked at the change with --review; without it, the
    command only compares. The exit code is 1 if something differs from the lock, 2 if nothing could
    be compared, a review was not accepted, or the rules of the policies do not fit what was pinned.
    """
    if yes and not review:
        raise click.UsageError("--yes is for --review only")
    loaded = load(config, cwd=Path.cwd(), trusted=False, pinning=True)
    # What agents may reach is pinned before it is accepted, too; what is started is not.
    current = load(config, cwd=Path.cwd(), trusted=True, pinning=True).snapshot
    before = lock_of(loaded.place)
    surveyed = _asked(loaded, upstreams)
    after = _pinned(loaded, current, before or Lock(), surveyed)
    changes = tuple(_changes(before or Lock(), after))
    notes = tuple(of_texts(loaded, current.agents.values(), current, surveyed))
    first = before is None
    if as_json:
        _print_json(changes, notes)
    elif review or not first:
        _print_changes(changes, whole=review)
    if not as_json:
        _print_notes(notes)
    shown = loaded.place.shown(loaded.place.lock)
    if not first and not changes:
        _say(f"Everything is as it is pinned in {shown}.", as_json)
        return 0
    if not first and not review:
        _say("Nothing was written; look at it with `gateway pin --review`.", as_json)
        return EXIT_DIFFERENT
    data = encode_lock(after, path=shown)
    if review:
        require_person(os.environ)
        if not yes:
            _ask(as_json)
    write_lock(loaded.place.lock, data)
    count = sum(len(each.tools) for each in after.upstreams.values())
    _say(f"Pinned {count} tools in {shown}.", as_json)
    _say(
        "What it withholds is withheld at once. What it releases is released when a person has "
        "accepted it with `gateway trust`.",
        as_json,
    )
    # A rule may be about an argument that a tool has no longer, or it was corrected before this
    # review; a gateway that runs keeps what was in force meanwhile.
    load(config, cwd=Path.cwd(), trusted=True)
    return 0


def _asked(loaded: Loaded, named: Sequence[str]) -> Mapping[str, Surveyed]:
    """What the upstreams offer; raises UserError where one of them does not say."""
    path = loaded.settings.path or None
    traits = loaded.snapshot.upstreams
    for name in named:
        if name not in traits:
            raise UserError(
                f"there is no upstream {name!r}; the configured ones are: "
                f"{', '.join(traits) or 'none'}",
                path=path,
            )
    held = [name for name in named or traits if traits[name].held]
    if held:
        raise UserError(
            f"nobody has accepted the entry of {', '.join(map(repr, held))}, so it cannot be asked "
            "for its tools; run `gateway trust` first, or name the upstreams to pin",
            path=path,
        )
    surveyed = ask_upstreams(loaded.settings, named or traits)
    silent = [result for result in surveyed.values() if result.catalog is None]
    if silent:
        raise UserError(
            f"nothing was compared: {silent[0].problem.splitlines()[0]}; mend it, or name the "
            "upstreams to pin",
            path=path,
        )
    return surveyed


def _pinned(
    loaded: Loaded, snapshot: Snapshot, before: Lock, surveyed: Mapping[str, Surveyed]
) -> Lock:
    """The lock as it would be now. Upstreams that were not asked stay as they are in it."""
    upstreams = {}
    for name in loaded.settings.upstreams:
        was = before.upstreams.get(name, LockedUpstream())
        result = surveyed.get(name)
        if result is None or result.catalog is None:
            if name in before.upstreams:
                upstreams[name] = was
            continue
        catalog = result.catalog
        offered = {entry.tool_id for entry in catalog.tools.values()}
        # What is away for a while is not released by that.
        tools = {
            tool: each
            for tool, each in was.tools.items()
            if tool not in offered and _may_return(name, each.definition, snapshot)
        }
        for tool in reached(catalog, snapshot.agents.values(), snapshot):
            entry = catalog.tools[tool]
            tools[entry.tool_id] = locked(entry)
        if tools:
            upstreams[name] = LockedUpstream(tools, result.instructions)
    return Lock(upstreams)


def _may_return(upstream: str, definition: Mapping[str, object], snapshot: Snapshot) -> bool:
    """Whether an agent may reach a tool that is not offered now."""
    action = Action("tool", "tools/call", upstream, str(definition["name"]))
    unknown = Context()
    verdicts = (decide(name, action, snapshot, unknown) for name in snapshot.agents)
    return any(not verdict.refuses or verdict.asks for verdict in verdicts)


def _changes(before: Lock, after: Lock) -> Iterator[Change]:
    for name in sorted({*before.upstreams, *after.upstreams}):
        was = before.upstreams.get(name, LockedUpstream())
        now = after.upstreams.get(name, LockedUpstream())
        if was.instructions != now.instructions:
            yield Change("~", name, "", (_instructions(was.instructions, now.instructions),))
        for tool in sorted({*was.tools, *now.tools}):
            one, other = was.tools.get(tool), now.tools.get(tool)
            if one is None and other is not None:
                yield Change("+", name, tool, definition=other.definition)
            elif other is None:
                yield Change("-", name, tool)
            elif one is not None:
                members = compare_definitions(one.definition, other.definition)
                if members:
                    yield Change("~", name, tool, members)


def _instructions(was: str | None, now: str | None) -> MemberChange:
    if was is None:
        return MemberChange("+", ("instructions",), after=now)
    if now is None:
        return MemberChange("-", ("instructions",), before=was)
    return MemberChange("~", ("instructions",), was, now)


def _ask(as_json: bool) -> None:
    if as_json or not sys.stdin.isatty() or not sys.stdout.isatty():
        raise UserError(
            "nothing was written: run `gateway pin --review` in a terminal, which asks, or give "
            "--yes"
        )
    if not click.confirm("Pin the tools as they are now?", default=False):
        raise UserError("nothing was written; what changed stays withheld")


def _say(text: str, as_json: bool) -> None:
    click.echo(text, err=as_json)


def _print_json(changes: Sequence[Change], notes: Sequence[Note]) -> None:
    for change in changes:
        print_json_line({"kind": "change", **msgspec.structs.asdict(change)})
    for note in notes:
        print_json_line({"kind": "finding", **msgspec.structs.asdict(note)})


def _print_notes(notes: Sequence[Note]) -> None:
    for note in notes:
        print_line(f"{note.severity}: {note.message} [{note.code}]")


def _print_changes(changes: Sequence[Change], *, whole: bool) -> None:
    """`whole`: with everything that a person should have seen before it is pinned."""
    for change in changes:
        print_line(_headline(change))
        if change.sign == "+" and whole:
            for line in _shown(change.definition):
                print_line(f"    {line}")
        for member in change.members:
            for line in _described(member, whole=whole):
                print_line(f"    {line}")


def _headline(change: Change) -> str:
    what = change.tool or f"the instructions of {change.upstream}"
    if change.sign == "+":
        return f"+ {what} (new)"
    if change.sign == "-":
        return f"- {what} (no agent may reach it any more)"
    if change.tool and any(member.path[0] not in TEXT_MEMBERS for member in change.members):
        return f"~ {what} (withheld)"
    return f"~ {what} (text only)"


def _described(member: MemberChange, *, whole: bool) -> Iterator[str]:
    path = ".".join(member.path)
    if not whole:
        yield f"{member.sign} {path}"
    elif isinstance(member.before, str) and isinstance(member.after, str):
        yield f"{member.sign} {path}"
        lines = difflib.unified_diff(
            member.before.split("\n"), member.after.split("\n"), "pinned", "now", lineterm=""
        )
        yield from (f"  {line}" for line in lines)
    elif member.sign == "~":
        yield f"~ {path}: {_json(member.before)} -> {_json(member.after)}"
    else:
        value = member.after if member.sign == "+" else member.before
        yield f"{member.sign} {path}: {_json(value)}"


def _shown(definition: Mapping[str, object]) -> Iterator[str]:
    for key in sorted(definition):
        value = definition[key]
        if isinstance(value, str):
            yield from (f"{key}: {line}" for line in value.split("\n"))
        else:
            yield f"{key}: {_json(value)}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, sort_keys=True)
