import base64
import json
import re
from io import BytesIO

import numpy as np
import pytest
import study_of_noise
from html_outline import Outline
from PIL import Image

from ddpm_pairs.reports.html.browser import MAX_BYTES

HOSTILE = "a/\"><script>alert('x')</script>&amp;{}"


@pytest.fixture(scope="module")
def results():
    return study_of_noise.pictures(30, HOSTILE.replace("{}", "{{}} {}"))


@pytest.fixture(scope="module")
def text(results):
    return study_of_noise.report(results, f"lightning predict '{HOSTILE[:-2]}' {{}} {{}}", [HOSTILE])


@pytest.fixture(scope="module")
def outline(text):
    return Outline(text)


def pixels(uri):
    with Image.open(BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))) as read:
        return np.array(read).transpose(2, 0, 1)


def test_it_says_what_to_do(outline):
    words = [one.text for one in outline.all("p")]
    assert any(one.startswith("Use rough with t = 50: KID 0.0125 (0.05 at t = 0") for one in words)
    assert f"{HOSTILE}." in words
    assert outline.one("code").text == f"lightning predict '{HOSTILE[:-2]}' rough 50"
    assert [one.text for one in outline.all("button") if "data-copy" in one.attributes] == ["Copy"]


def test_the_table_has_every_cell_and_the_floor(outline):
    rows = [[one.text for one in outline.elements if one.tag in ("th", "td")][n : n + 10] for n in range(0, 80, 10)]
    assert rows[0][:4] == ["degradation", "t", "fid192", "FID"]
    assert rows[0][-2:] == ["power 1/8 to 1/4, dB", "power 1/4 to 1/2, dB"]
    assert rows[1] == ["mild", "0", "6.000", "60.00", "0.0600", "25.00", "24.00", "1.50", "+0.5", "-2.2"]
    assert rows[5][:4] == ["rough recommended", "50", "1.250", "12.50"]
    assert rows[7][:4] == ["real vs. real", "", "0.7500", "7.500"]


def test_there_is_a_plot_of_every_score_with_a_curve_per_degradation(outline):
    plots = outline.all("svg", role="img")
    assert [one.attributes["aria-label"].partition(" over t")[0] for one in plots] == [
        "KID (lower is closer)",
        "FID, 192-d: texture (lower is closer)",
        "FID, 2048-d: mostly content (lower is closer)",
        "PSNR of LQ against HQ, dB (dashed: median)",
    ]
    assert all(figure.attributes["class"] == "chart" for figure in outline.all("figure")[:4])
    for legend in ("mild", "rough", "recommended t", "real vs. real, 0.0075"):
        assert legend in plots[0].text
    assert "paper's limit, faces, 24" in plots[3].text
    titles = [one.text for one in outline.all("title") if "svg" in one.path]
    assert {"rough, t = 50: KID 0.0125", "rough, t = 50: fid192 1.25", "rough, t = 50: FID 12.5"} <= set(titles)
    assert {"rough, t = 100: PSNR 15", "rough, t = 100: median PSNR 14"} <= set(titles)
    assert len(titles) == 3 * 6 + 12


def test_images_are_the_very_pixels_evenly_spaced(outline, results):
    data = json.loads(outline.one("script", type="application/json").text)
    assert "24 of 30 images" in " ".join(one.text for one in outline.all("p"))
    assert len(data["items"]) == 24
    assert [data["items"][n]["name"] for n in (0, -1)] == [results[0].key, results[-1].key]
    last = results[-1]
    for d, row in enumerate(data["items"][-1]["rows"]):
        assert [name for name, _, _ in row] == ["HQ", "initial LQ", "t = 50", "t = 100"]
        shown = [pixels(data["uris"][place]) for _, _, place in row]
        assert np.array_equal(shown[0], last.hq.numpy())
        for column in range(3):
            assert np.array_equal(shown[1 + column], last.patches[d, column].numpy())
    assert [note for _, note, _ in data["items"][0]["rows"][0]] == ["", "30.00 dB", "28.50 dB", "∞ dB"]
    browser = outline.one("div", class_="browser").attributes
    assert (browser["data-row"], browser["data-stage"]) == ("1", "2")  # rough, t = 50


def test_nothing_comes_from_outside_and_names_stay_text(outline, text, results):
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", re.sub(r"data:image/png;base64,[\w+/=]*", "", text))
    for element in outline.elements:
        for name in ("src", "href"):
            assert element.attributes.get(name, "data:").startswith(("data:", "#plot"))
        assert not [name for name in element.attributes if name.startswith("on")]
    assert len(outline.all("script")) == 2
    options = [one.text for one in outline.all("option")]
    assert options[0] == results[0].key
    assert len(text) < MAX_BYTES + 500_000
    ids = [one.attributes["id"] for one in outline.elements if "id" in one.attributes]
    assert len(ids) == len(set(ids))
