"""Whether a label of a host name is made to look like another: its scripts and letters."""

import unicodedata

# Scripts that are written together; everything else is one script a label.
_TOGETHER = (
    frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"}),
    frozenset({"CJK", "BOPOMOFO"}),
    frozenset({"CJK", "HANGUL"}),
)
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")

# Letters of Cyrillic, Greek and Armenian that are drawn as Latin ones.
_LIKE_LATIN = frozenset(
    "\u0430\u0431\u0432\u0433\u0435\u0437\u043a\u043c\u043d\u043e\u043f\u0440\u0441\u0442\u0443"
    "\u0445\u0455\u0456\u0458\u0459\u045a\u0461\u0475\u04bb\u04cf\u0501\u051b\u051d\u0491\u044c"
    "\u0474\u0454\u04e1\u0433\u0440"
    "\u03b1\u03b2\u03b3\u03b5\u03b7\u03b9\u03ba\u03bd\u03bf\u03c1\u03c3\u03c4\u03c5\u03c7\u03c9"
    "\u0570\u0575\u0578\u057d\u057c\u0581\u0585\u0566\u0563\u0561\u056f\u0572"
)
# Written in Latin, yet hard to tell from a letter, or from nothing.
_LIKE_PLAIN = frozenset("\u0131\u0251\u0261\u017f\u0269\u028b\u0237\u01c0\u0142\u00f8\u0111\u0127")


def looks_foreign(label: str) -> bool:
    """Whether a label in Unicode mixes scripts, or is of one whose letters all look Latin."""
    scripts: set[str] = set()
    for character in label:
        if character in _PLAIN:
            continue
        if not character.isalnum() or character in _LIKE_PLAIN:
            # Marks, punctuation, joiners: hardly seen. An accent belongs to its letter.
            return True
        scripts.add(_script(character))
    if "" in scripts:
        return True
    foreign = scripts - {"LATIN"}
    if foreign and ("LATIN" in scripts or any("a" <= letter <= "z" for letter in label)):
        return True
    if len(foreign) > 1 and not any(foreign <= together for together in _TOGETHER):
        return True
    return bool(foreign) and all(
        character in _LIKE_LATIN or character in _PLAIN for character in label
    )


def _script(character: str) -> str:
    """The first word of the character's name, which for letters is the script; "" if odd."""
    name = unicodedata.name(character, "")
    first = name.partition(" ")[0]
    if first in ("FULLWIDTH", "HALFWIDTH", "MATHEMATICAL", "MODIFIER", "SUPERSCRIPT", ""):
        return ""
    return first
