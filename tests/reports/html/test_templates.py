import base64
import re
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import pytest
from html_outline import Outline
from jinja2 import UndefinedError
from markupsafe import Markup

import ddpm_pairs
from ddpm_pairs.reports.html.svg import PALETTE
from ddpm_pairs.reports.html.templates import environment, render
from ddpm_pairs.reports.html.values import Table

HOSTILE = "\"'><script>alert('x')</script>&amp;{{ 7 * 7 }}.png"
LAYOUT = """{% extends "reports/html/page.html.j2" %}
{% from "reports/html/parts.html.j2" import command, section, settings, table %}
{% block main %}
{% call section("a", heading) %}
{{ command(heading) }}
{{ settings({heading: heading}) }}
{% endcall %}
{% endblock %}"""


def part(name, *arguments):
    """What a macro of ``parts.html.j2`` gives."""
    return Outline(getattr(environment().get_template("reports/html/parts.html.j2").module, name)(*arguments))


def test_a_page_is_complete_and_hostile_text_stays_text():
    text = environment().from_string(LAYOUT).render(title=HOSTILE, lead=HOSTILE, heading=HOSTILE)
    assert text.startswith("<!DOCTYPE html>")
    outline = Outline(text)
    assert outline.one("html").attributes["lang"] == "en"
    assert outline.one("title").text == outline.one("h1").text == outline.one("h2").text == HOSTILE
    assert outline.one("code").text == outline.one("dt").text == outline.one("dd").text == HOSTILE
    assert outline.one("section").attributes["aria-labelledby"] == outline.one("h2").attributes["id"]
    assert len(outline.all("script")) == 1  # our own


def test_the_page_s_policy_allows_our_script_and_no_other():
    outline = Outline(environment().from_string(LAYOUT).render(title="a", lead="b", heading="c"))
    policy = outline.one("meta", http_equiv="Content-Security-Policy").attributes["content"]
    digest = base64.b64encode(sha256(outline.one("script").text.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy.partition("script-src")[2]


def test_every_template_escapes_and_no_template_turns_that_off():
    templates = list(Path(ddpm_pairs.__file__).parent.rglob("*.j2"))
    assert len(templates) >= 5
    for path in templates:
        assert path.name.endswith(".html.j2")
        assert not re.search(r"\|\s*safe|autoescape", path.read_text(encoding="utf-8")), path
    assert environment().from_string("{{ a }}").render(a=HOSTILE) == str(Markup.escape(HOSTILE))


def test_what_is_missing_is_an_error():
    with pytest.raises(UndefinedError, match="lead"):
        environment().from_string(LAYOUT).render(title="a", heading="c")
    with pytest.raises(UndefinedError, match="'title' is undefined"):
        render("study/report.html.j2")


def test_a_table_escapes_highlights_a_row_and_scrolls_by_keyboard():
    outline = part("table", Table(HOSTILE, ["a", "b"], [[HOSTILE, "1"], ["x", HOSTILE]], {1: "best"}))
    assert outline.one("caption").text == HOSTILE
    assert [one.text for one in outline.all("th", scope="col")] == ["a", "b"]
    assert [one.text for one in outline.all("th", scope="row")] == [HOSTILE, "x best"]
    assert [one.text for one in outline.all("td")] == ["1", HOSTILE]
    assert [one.attributes.get("class") for one in outline.all("tr")] == [None, None, "marked"]
    around = outline.one("div").attributes
    assert (around["tabindex"], around["role"], around["aria-label"]) == ("0", "region", HOSTILE)


def test_a_command_breaks_between_its_words_and_copies_as_it_was():
    outline = part("command", "lightning predict  --a '<b> c'")
    assert outline.one("code").text == "lightning predict  --a '<b> c'"
    assert [one.text for one in outline.all("span") if "code" in one.path][:2] == ["lightning", "predict"]


def luminance(color):
    """Relative luminance of WCAG 2."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first, second):
    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def scheme_of(number):
    style = files("ddpm_pairs.reports.html").joinpath("page.css").read_text(encoding="utf-8")
    return dict(re.findall(r"--([\w-]+): (#\w{6});", re.findall(r":root \{(.*?)\}", style, re.S)[number]))


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_and_curves_stand_out_from_their_ground(scheme):
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    colors = scheme_of(scheme)
    grounds = {"ink": ("paper", "card", "lifted"), "faint": ("paper", "card"), "accent": ("paper", "card")}
    grounds |= {"warn-ink": ("warn",), "card": ("accent",)}
    for name, behind in grounds.items():
        for ground in behind:
            assert contrast(colors[name], colors[ground]) >= 4.5, (name, ground)
    for number in range(6):
        assert contrast(colors[f"c{number}"], colors["card"]) >= 3


def test_figures_are_drawn_in_the_colors_of_the_light_scheme():
    assert PALETTE.items() <= scheme_of(0).items()
    assert PALETTE.keys() <= scheme_of(1).keys()
