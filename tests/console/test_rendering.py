"""How texts of others are shown in a page: whole pages are in test_app.py."""

import html
import re
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from gateway.console import rendering
from gateway.console.rendering import Templates, foreign, plain, pretty_json, shown
from gateway.escaping import escape
from tests.console.logs import HOSTILE

_TAG = re.compile(r'</?(?:span class="esc"|span|bdi)>')


class TestShown:
    @given(st.text(max_size=300))
    def test_it_is_the_escaped_text_in_markup_of_ours_alone(self, text: str) -> None:
        markup = str(shown(text))
        assert html.unescape(_TAG.sub("", markup)) == escape(text)
        assert "<" not in _TAG.sub("", markup)

    @given(st.text(max_size=300))
    def test_nothing_in_it_is_invisible(self, text: str) -> None:
        for part in (str(shown(text)), str(foreign(text)), plain(text)):
            assert escape(part) == part

    def test_escapes_are_marked_so_that_nobody_can_write_them(self) -> None:
        assert shown("a\x1bb") == 'a<span class="esc">\\x1b</span>b'
        assert shown("a\\x1bb") == "a\\x1bb"

    def test_a_long_text_is_cut_and_says_so(self) -> None:
        markup = shown("A" * 1_000_000)
        assert len(markup) < 2 * rendering.MAX_CHARS
        assert "1,000,000 characters" in markup

    def test_markup_of_ours_stays(self) -> None:
        assert shown(Markup("<b>x</b>")) == "<b>x</b>"

    @pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
    def test_hostile_values_of_arguments_are_shown_and_bounded(self, text: str) -> None:
        markup = str(pretty_json({text[:100]: [text] * 50}))
        assert "<script" not in markup
        assert "<img" not in markup
        assert len(markup) < 60_000


class TestTemplates:
    """Jinja does not know where in a page a value stands, so the templates have to."""

    @pytest.mark.parametrize(
        "path", sorted(files("gateway.console").joinpath("templates").iterdir(), key=str), ids=str
    )
    def test_no_attribute_holds_what_has_elements_in_it(self, path: object) -> None:
        text = path.read_text()  # type: ignore[attr-defined]
        attributes = re.findall(r'[a-z-]+="([^"]*)"', text)
        assert not [each for each in attributes if re.search(r"\|\s*(shown|foreign|when)\b", each)]
        # A value that is not in quotes could end its attribute with a blank.
        assert not re.findall(r"<[a-z][^<>{}]*[a-z-]+=\{\{", text)

    @pytest.mark.parametrize(
        "path", sorted(files("gateway.console").joinpath("templates").iterdir(), key=str), ids=str
    )
    def test_there_is_neither_style_nor_script_in_a_page(self, path: object) -> None:
        text = path.read_text()  # type: ignore[attr-defined]
        assert "|safe" not in text
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script>|javascript:", text)

    def test_a_text_that_a_template_prints_plainly_is_escaped_for_an_attribute_too(self) -> None:
        templates = Templates("/console")
        template = templates._environment.from_string('<a title="{{ x }}">{{ x }}</a>')
        text = template.render(x='"><script>\x00\u202e')
        escaped = "&#34;&gt;&lt;script&gt;\\x00\\u202e"
        assert text == f'<a title="{escaped}">{escaped}</a>'


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (None, "\N{EN DASH}"),
        (999, "999 µs"),
        (1500, "1.5 ms"),
        (42_000, "42 ms"),
        (2_500_000, "2.5 s"),
    ],
)
def test_durations_have_the_unit_that_suits_them(microseconds: int | None, text: str) -> None:
    assert rendering.duration(microseconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(12, "12 bytes"), (2048, "2.0 KiB"), (5 * 1024**3, "5.0 GiB"), (2**50, "1048576.0 GiB")],
)
def test_sizes_have_the_unit_that_suits_them(size: int, text: str) -> None:
    assert rendering.size(size) == text
