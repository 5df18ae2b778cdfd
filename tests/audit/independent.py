"""A verifier that was written from docs/audit.md alone, and shares no code with the program.

It takes an audit directory, or a bundle as `gateway audit export --evidence` makes it, and the
public keys that are to be trusted; it returns what is wrong, in words of its own.
"""

import base64
import gzip
import json
import re
import tarfile
from collections import defaultdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

NAME = re.compile(r"([^.]+)(?:\.(\d{4,}))?\.jsonl(\.gz)?")
Problems = list[str]


def files_of(log: Path) -> dict[str, bytes]:
    """The files of a log by their paths inside of it, unpacked."""
    if log.is_dir():
        found = {str(path.relative_to(log)): path.read_bytes() for path in log.rglob("*.jsonl*")}
    else:
        with tarfile.open(log) as bundle:
            members = [member for member in bundle if member.isfile()]
            found = {each.name: bundle.extractfile(each).read() for each in members}  # type: ignore[union-attr]
    return {
        name.removesuffix(".gz"): gzip.decompress(data) if name.endswith(".gz") else data
        for name, data in sorted(found.items(), reverse=True)  # the plain form wins
    }


def root_of(lines: list[bytes]) -> bytes:
    """The Merkle tree hash of RFC 6962, section 2.1."""
    if len(lines) < 2:
        return sha256(b"\0" + lines[0]).digest() if lines else sha256(b"").digest()
    half = 1 << ((len(lines) - 1).bit_length() - 1)
    return sha256(b"\1" + root_of(lines[:half]) + root_of(lines[half:])).digest()


def opened(note: str, keys: list[str]) -> str | None:
    """The text of a signed note if one of `keys` (NAME+ID+KEY) signed it."""
    text, _, signatures = note.rpartition("\n\n")
    for line in signatures.splitlines():
        _, name, encoded = line.split(" ")
        raw = base64.b64decode(encoded)
        for key in keys:
            known, key_id, public = key.split("+", 2)
            if (known, key_id) == (name, raw[:4].hex()):
                try:
                    ed25519 = Ed25519PublicKey.from_public_bytes(base64.b64decode(public)[1:])
                    ed25519.verify(raw[4:], f"{text}\n".encode())
                except InvalidSignature:
                    return None
                return f"{text}\n"
    return None


def verify(log: Path, keys: list[str]) -> Problems:
    """What is wrong with the log; nothing if it is whole."""
    problems: Problems = []
    files = files_of(log)
    journals: dict[str, list[tuple[int, bytes]]] = defaultdict(list)
    for path, data in files.items():
        found = NAME.fullmatch(path.rpartition("/")[2])
        if found and "journal/" in f"/{path}":
            journals[found[1]].append((int(found[2] or 1), data))
    records: dict[str, dict[int, tuple[bytes, dict[str, Any]]]] = {}
    for writer, segments in journals.items():
        records[writer] = {}
        for _, data in sorted(segments):
            for line in data.split(b"\n")[:-1]:
                record = json.loads(line)
                text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
                if text.encode() != line or record["writer"] != writer or record["v"] != 1:
                    problems.append(f"{writer}: not a canonical record of its own")
                records[writer][record["seq"]] = (line, record)
    pruned: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    everything = [record for own in records.values() for _, record in own.values()]
    for record in everything:
        if record.get("event") == "journal.pruned":
            grave = record["pruned"]
            digest = sha256(json.dumps(grave, sort_keys=True, separators=(",", ":")).encode())
            text = f"mcp-tool-gateway/tombstone\n{grave['segment']}\n{digest.hexdigest()}\n"
            if opened(record["data"]["note"], keys) == text:
                pruned[grave["writer"]][grave["first_seq"]] = grave
    last: dict[str, int] = {}
    for writer in records.keys() | pruned.keys():
        own = records.get(writer, {})
        seq, prev = 0, "0" * 64
        while True:
            if seq + 1 in own:
                line, record = own[seq + 1]
                if record["prev"] != prev:
                    problems.append(f"{writer}: record {seq + 1} does not follow")
                seq, prev = seq + 1, sha256(line).hexdigest()
            elif (grave := pruned[writer].get(seq + 1)) and grave["prev"] == prev:
                seq, prev = grave["last_seq"], grave["digest"]
            else:
                break
        last[writer] = seq
        if seq < max(own, default=0):
            problems.append(f"{writer}: record {seq + 1} is missing")
    for record in everything:
        for head in record.get("heads") or ():
            writer, seq = head["writer"], head["seq"]
            if last.get(writer, -1) < seq or (not seq and writer not in last):
                problems.append(f"{writer}: had {seq} records, has {last.get(writer)}")
            elif head.get("final") and last[writer] > seq > 0:
                problems.append(f"{writer}: has records after its final one, {seq}")
            elif seq in records.get(writer, {}):
                line = records[writer][seq][0]
                if sha256(line).hexdigest() != head["digest"]:
                    problems.append(f"{writer}: record {seq} is another one")
    notes = [
        (record["writer"], record["data"]["note"])
        for record in everything
        if record.get("event") == "checkpoint"
    ]
    for line in files.get("checkpoints.jsonl", b"").splitlines():
        kept = json.loads(line)
        if "note" in kept:
            notes.append((kept["journal"], kept["note"]))
    for writer, note in notes:
        text = opened(note, keys)
        if text is None:
            problems.append(f"{writer}: a checkpoint that no trusted key signed")
            continue
        origin, size, root = text.split("\n")[:3]
        own = records.get(writer, {})
        wanted = range(1, int(size) + 1)
        if origin.rpartition("/")[2] != writer or last.get(writer, 0) < int(size):
            problems.append(f"{writer}: had {size} records")
        elif all(seq in own for seq in wanted):
            made = base64.b64encode(root_of([own[seq][0] for seq in wanted])).decode()
            if made != root:
                problems.append(f"{writer}: the first {size} records are other ones")
    return problems
