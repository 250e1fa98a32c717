import base64
import re
from importlib.resources import files
from io import BytesIO

import numpy as np
import pytest
import torch
from html_outline import Outline
from PIL import Image

from ddpm_pairs.reports.html.page import command, distance, number, page, png_uri, section, settings, table

HOSTILE = "\"><script>alert('x')</script>&amp;.png"


def test_a_page_is_whole_and_keeps_to_itself():
    text = page(HOSTILE, HOSTILE, [section("a", HOSTILE, command(HOSTILE), settings({HOSTILE: [HOSTILE, 1]}))])
    assert text.startswith("<!DOCTYPE html>")
    outline = Outline(text)
    assert outline.one("html").attributes["lang"] == "en"
    assert outline.one("title").text == outline.one("h1").text == outline.one("h2").text == HOSTILE
    assert outline.one("code").text == outline.one("dt").text == HOSTILE
    assert outline.one("dd").text == f"{HOSTILE}, 1"
    assert outline.one("section").attributes["aria-labelledby"] == outline.one("h2").attributes["id"]
    assert len(outline.all("script")) == 1  # our own
    assert "default-src 'none'" in outline.one("meta", http_equiv="Content-Security-Policy").attributes["content"]


def test_a_table_escapes_marks_a_row_and_can_be_scrolled_by_keyboard():
    outline = Outline(table(HOSTILE, ["a", "b"], [[HOSTILE, "1"], ["x", HOSTILE]], {1: "best"}))
    assert outline.one("caption").text == HOSTILE
    assert [one.text for one in outline.all("th", scope="col")] == ["a", "b"]
    assert [one.text for one in outline.all("th", scope="row")] == [HOSTILE, "x best"]
    assert [one.text for one in outline.all("td")] == ["1", HOSTILE]
    assert [one.attributes.get("class") for one in outline.all("tr")] == [None, None, "marked"]
    around = outline.one("div").attributes
    assert (around["tabindex"], around["role"], around["aria-label"]) == ("0", "region", HOSTILE)


def test_a_picture_comes_back_pixel_by_pixel():
    pixels = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    head, _, body = png_uri(pixels).partition(",")
    assert head == "data:image/png;base64"
    with Image.open(BytesIO(base64.b64decode(body))) as read:
        assert np.array_equal(np.array(read), pixels.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (number(1.005, 1), "1.0"),
        (number(0.5, 1, "+"), "+0.5"),
        (number(None), "–"),
        (number(float("nan")), "–"),
        (number(float("inf")), "∞"),
        (distance(12.3), "12.30"),
        (distance(0.0147712), "0.01477"),
        (distance(None), "–"),
        (distance(float("nan")), "–"),
    ],
)
def test_numbers(shown, expected):
    assert shown == expected


def luminance(colour):
    """Relative luminance of WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first, second):
    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_and_curves_stand_out_from_their_ground(scheme):
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    style = files("ddpm_pairs.reports.html").joinpath("page.css").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", re.findall(r":root \{(.*?)\}", style, re.S)[scheme]))
    grounds = {"ink": ("paper", "card", "lifted"), "faint": ("paper", "card"), "accent": ("paper", "card")}
    grounds |= {"warn-ink": ("warn",), "card": ("accent",)}
    for name, behind in grounds.items():
        for ground in behind:
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    for number_of in range(6):
        assert contrast(colours[f"c{number_of}"], colours["card"]) >= 3
