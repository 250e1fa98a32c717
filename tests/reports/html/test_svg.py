"""Matplotlib figures inside a page."""

import re

import pytest
from html_outline import Outline
from matplotlib.figure import Figure

from ddpm_pairs.reports.html.svg import PALETTE, inline_svg

HOSTILE = "\"'></svg><script>alert('x')</script> id=\"c0\" & 数 url(#c0)"


def figure(name="a"):
    drawn = Figure(figsize=(4, 3), facecolor=PALETTE["card"])
    axes = drawn.subplots()
    axes.plot([0, 1, 2], [1.0, float("nan"), 3.0], "o-", color=PALETTE["c1"], gid="c0")
    axes.set_ylim(0, 4)
    axes.set_title(name, color=PALETTE["ink"], parse_math=False)
    return drawn


def test_it_is_one_image_with_a_label_and_scales_with_the_page():
    outline = Outline(inline_svg(figure(), "p", HOSTILE))
    assert outline.elements[0].tag == "svg"
    assert outline.elements[0].attributes == {"viewbox": "0 0 288 216", "role": "img", "aria-label": HOSTILE}
    assert not outline.all("style") and not outline.all("metadata")


def test_equal_figures_give_equal_text_without_a_date(monkeypatch):
    first = inline_svg(figure(), "p", "a")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    assert inline_svg(figure(), "p", "a") == first


def test_ids_of_two_figures_never_meet_and_every_reference_has_its_target():
    outline = Outline(inline_svg(figure(), "p", "a") + inline_svg(figure(), "q", "a"))
    ids = [one.attributes["id"] for one in outline.elements if "id" in one.attributes]
    assert ids and len(ids) == len(set(ids))
    assert {one[:2] for one in ids} == {"p-", "q-"}
    links = [one.attributes["href"].removeprefix("#") for one in outline.all("use")]
    links += [
        re.fullmatch(r"url\(#(.*)\)", clip)[1] for one in outline.elements if (clip := one.attributes.get("clip-path"))
    ]
    assert set(links) == set(ids)


def test_colors_are_the_page_s_and_text_is_text_in_its_font():
    text = inline_svg(figure("title"), "p", "a")
    outline = Outline(text)
    assert "font-family" not in text
    (title,) = [one for one in outline.all("text") if one.text == "title"]
    assert "fill: var(--ink)" in title.attributes["style"]
    assert "var(--c1)" in text and "var(--card)" in text
    assert not any(color in text for color in PALETTE.values())


def test_markers_say_their_values():
    outline = Outline(inline_svg(figure(), "p", "a", {"c0": ["one", HOSTILE]}))
    assert [one.text for one in outline.all("title")] == ["one", HOSTILE]
    assert all(one.path[-1] == "use" for one in outline.all("title"))
    with pytest.raises(ValueError, match="argument"):
        inline_svg(figure(), "p", "a", {"c0": ["one", "two", "three"]})


@pytest.mark.filterwarnings("ignore:Glyph")
def test_hostile_text_stays_text():
    outline = Outline(inline_svg(figure(HOSTILE), "p", "a"))
    assert HOSTILE in [one.text for one in outline.all("text")]
    assert not outline.all("script")
