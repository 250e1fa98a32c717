import base64
import json
from io import BytesIO

import numpy as np
import pytest
from html_outline import Outline
from PIL import Image

from ddpm_pairs.cli.main import main
from ddpm_pairs.images.find import Failure
from ddpm_pairs.reports.scoring.report import groups, order, score_report
from ddpm_pairs.reports.scoring.scores import Scores

HOSTILE = "\"><script>alert('x')"


@pytest.fixture
def folders(tmp_path):
    """Fifteen pairs, more and more alike; the last one is equal. The first one's name is hostile."""
    rng = np.random.default_rng(0)
    for number in range(15):
        name = f"{HOSTILE}.png" if number == 0 else f"{number:02}.png"
        reference = np.kron(rng.integers(0, 200, (30, 28, 3), dtype=np.uint8), np.ones((10, 10, 1), np.uint8))
        for folder, pixels in (("reference", reference), ("result", reference + np.uint8(14 - number))):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / name)
    return tmp_path


def test_the_verb_writes_a_page_with_worst_median_and_best(folders):
    words = ["score", str(folders / "result"), str(folders / "reference"), "--output_dir", str(folders / "out")]
    assert main([*words, "--metrics", "psnr"]) == 0
    outline = Outline((folders / "out" / "report.html").read_text(encoding="utf-8"))
    data = json.loads(outline.one("script", type="application/json").text)
    names = [one["name"].rpartition(" (PSNR")[0] for one in data["items"]]
    assert names == [HOSTILE, "01", "02", "03", "05", "06", "07", "08", "11", "12", "13", "14"]
    assert [one.attributes["label"] for one in outline.all("optgroup")] == ["Worst", "Around the median", "Best"]
    assert "12 of 15 images" in " ".join(one.text for one in outline.all("p"))
    ((reference, result),) = data["items"][0]["rows"]
    for (_, _, place), folder in ((reference, "reference"), (result, "result")):
        body = data["uris"][place].removeprefix("data:image/png;base64,")
        whole = np.array(Image.open(folders / folder / f"{HOSTILE}.png"))
        assert np.array_equal(np.array(Image.open(BytesIO(base64.b64decode(body)))), whole[22:278, 12:268])
    assert data["items"][-1]["rows"][0][1][:2] == ["result", "PSNR ∞"]
    assert any("1 images equal their reference" in one.text for one in outline.all("p"))


def test_scores_without_pairs_are_a_table_with_settings_notes_and_what_was_left_out():
    scores = Scores(
        values={"fid": 12.0, "fid192": None, "kid": 0.00123, "lpips": None, "psnr": None, "ssim": None},
        n=40,
        intervals={"kid": (0.001, 0.0015)},
        floor={"fid": 3.0, "kid": 0.0},
        notes={"lpips": "no <key>", "psnr": "no <key>"},
        settings={"patch": 64, "patches": 40, "inception": "x & y"},
        failures=[Failure(f"{HOSTILE}.png", "torn"), *[Failure(f"{n}.png", "torn") for n in range(150)]],
    )
    outline = Outline(score_report(scores))
    assert [one.text for one in outline.all("td")][:16] == [
        *("12.00", "", "lower", "3.000"),
        *("0.0012", "0.0010 to 0.0015", "lower", "0.0000"),
        *("–", "", "lower", ""),
        *("–", "", "higher", ""),
    ]
    assert outline.one("p", class_="warning").text == "LPIPS, PSNR: no <key>."
    assert [one.text for one in outline.all("dd")] == ["64", "40", "x & y"]
    assert "40 native patches of 64 px" in outline.all("p")[0].text
    assert outline.all("caption")[-1].text == "100 of 151; metrics.json lists all of them"
    assert f"{HOSTILE}.png" in [one.text for one in outline.all("th")]
    assert outline.all("script", type="application/json") == []


def test_lpips_comes_before_psnr_and_low_is_good():
    pictures = {
        "a": {"psnr": 30.0, "lpips": 0.1},
        "b": {"psnr": 20.0, "lpips": 0.05},
        "c": {"psnr": 25.0, "lpips": 0.3},
    }
    assert order(pictures) == ("lpips", ["c", "a", "b"])
    assert order({key: {"psnr": found["psnr"]} for key, found in pictures.items()}) == ("psnr", ["b", "c", "a"])
    assert order({"a": {"ssim": 0.5}, "b": {"ssim": 0.4}}) == ("ssim", ["b", "a"])


def test_few_pictures_are_all_shown():
    assert groups(list("abc")) == [("", "a"), ("", "b"), ("", "c")]
    assert [key for _, key in groups(list("abcdefghijklm"))] == list("abcdefghjklm")
