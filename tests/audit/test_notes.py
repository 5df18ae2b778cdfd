"""Signed notes as the specification has them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.notes import (
    Checkpoint,
    Signer,
    Verifier,
    parse_note,
    signed_note,
    split_notes,
)
from gateway.errors import UserError

KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
NOTE = (
    "This is an example message.\n\n\u2014 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi"
    "2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
"""Made by other software: the example of the package `signed_note` for Elixir."""


def test_a_note_of_other_software_verifies() -> None:
    key = Verifier.parse(KEY)
    assert parse_note(NOTE).signed_by([key]) == key
    assert key.text() == KEY


@given(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1))
def test_what_is_signed_verifies_and_nothing_else_does(text: str) -> None:
    signer = Signer.generate("example.com/audit")
    note = parse_note(signed_note(f"{text}\n", [signer]))
    assert note.text == f"{text}\n"
    assert note.signed_by([signer.verifier()]) == signer.verifier()
    assert note.signed_by([Signer.generate("example.com/audit").verifier()]) is None
    other = parse_note(signed_note(f"{text}.\n", [signer]))
    with pytest.raises(ValueError, match="is bad"):
        type(note)(note.text, other.signatures).signed_by([signer.verifier()])


def test_a_note_may_have_signatures_of_several_keys_and_unknown_ones() -> None:
    old, new = Signer.generate("a"), Signer.generate("b")
    note = parse_note(signed_note("x\n", [old, new]))
    assert note.signed_by([new.verifier()]) == new.verifier()
    assert len(note.signatures) == 2


@pytest.mark.parametrize(
    "note",
    [
        "",
        "text\n",
        "text\n\n",
        "text\n\n— a\n",
        "text\n\n— a !!\n",
        "text\n\n- a AAAAAAA=\n",
        "te\x00xt\n\n— a AAAAAAA=\n",
        "t\n\n" + "— a AAAAAAA=\n" * 65,
        "x" * 70000,
    ],
)
def test_what_is_no_note_is_refused(note: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - base64 has words of its own
        parse_note(note)


def test_a_key_is_read_as_it_was_written_and_told_nowhere() -> None:
    signer = Signer.generate("example.com/audit")
    again = Signer.parse(f"{signer.text()}\n")
    assert again.verifier() == signer.verifier()
    assert signer.text() not in repr(signer)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PRIVATE+KEY+",
        "PRIVATE+KEY+a+00000000+AQ==",
        "PRIVATE+KEY+a b+00000000+AQ==",
        KEY,
        "PRIVATE+KEY+a+00000000+!!",
    ],
)
def test_what_is_no_private_key_is_refused_without_a_word_of_it(text: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - what it says is tested below
        Signer.parse(text)
    assert not text or text not in str(raised.value)


def test_a_key_whose_id_is_anothers_does_not_sign() -> None:
    name, key_id, key = Signer.generate("a").text().removeprefix("PRIVATE+KEY+").split("+", 2)
    other = f"{int(key_id, 16) ^ 1:08x}"
    with pytest.raises(UserError, match="damaged"):
        Signer.parse(f"PRIVATE+KEY+{name}+{other}+{key}").signature_line("x\n")
    with pytest.raises(ValueError, match="key id"):
        Verifier.parse(KEY.replace("530d903a", "530d903b"))


@pytest.mark.parametrize("name", ["", "a b", "a+b", "\u00e4", "a\n"])
def test_a_key_has_a_name_that_notes_can_have(name: str) -> None:
    with pytest.raises(UserError, match="no name for a key"):
        Signer.generate(name)


def test_checkpoints() -> None:
    checkpoint = Checkpoint("example.com/log/w", 20_852_163, bytes(range(32)))
    text = checkpoint.text()
    assert text == "example.com/log/w\n20852163\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
    assert Checkpoint.parse(text) == checkpoint
    assert Checkpoint.parse(f"{text}extension\n") == checkpoint
    for wrong in ("", "o\n1\n", text.replace("20852163", "020"), text[:-1], f"{text}\n"):
        with pytest.raises(ValueError):  # noqa: PT011 - base64 has words of its own
            Checkpoint.parse(wrong)


def test_notes_that_stand_one_after_the_other() -> None:
    signer = Signer.generate("a")
    notes = [signed_note(f"o\n{number}\nroot\n", [signer]) for number in range(3)]
    assert split_notes("\n".join(notes)) == notes
    assert split_notes("".join(notes)) == notes
