"""What a test with a restorer leaves."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_pairs.images.before_after import cut_center
from ddpm_pairs.images.find import Failure, Picture
from ddpm_pairs.metrics.evaluated import Evaluated
from ddpm_pairs.reports.restoration import report_restored, report_scores


@pytest.fixture
def evaluated():
    pictures = {"sub/a": {"psnr": 24.0, "ssim": 0.75}, "sub/b": {"psnr": 22.0, "ssim": 0.7}}
    return Evaluated(
        values={"psnr": 23.0, "ssim": 0.725},
        intervals={"psnr": (22.0, 24.0), "ssim": (0.7, 0.75)},
        notes=dict.fromkeys(("fid", "fid192", "kid"), "fewer than 4 images in a set"),
        settings={"psnr": "mean over pictures, RGB, 8 bits"},
        pictures=pictures,
        inputs={key: {"psnr": 20.0, "ssim": 0.5} for key in pictures},
        input_values={"psnr": 20.0, "ssim": 0.5},
        n=2,
    )


def shown(photos):
    made = []
    for n, key in enumerate(("sub/a", "sub/b")):
        hq = torch.from_numpy(photos[n].copy()).permute(2, 0, 1)
        made.append(cut_center(key, hq[:, ::4, ::4], 255 - hq, hq))
    return made


def test_scores_stand_under_the_names_of_the_contract(evaluated, tmp_path, capsys):
    report_scores(tmp_path / "scores", evaluated, failures={"small": "pictures are 20x20 px"})
    document = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert {name: document[name] for name in ("fid", "fid192", "kid", "lpips", "psnr", "ssim", "n")} == {
        "fid": None,
        "fid192": None,
        "kid": None,
        "lpips": None,
        "psnr": 23.0,
        "ssim": 0.725,
        "n": 2,
    }
    assert document["notes"] == dict.fromkeys(("fid", "fid192", "kid"), "fewer than 4 images in a set")
    assert document["intervals"] == {"psnr": [22.0, 24.0], "ssim": [0.7, 0.75]}
    assert document["input"] == {"psnr": 20.0, "ssim": 0.5}
    assert document["failures"] == [{"source": "small", "reason": "pictures are 20x20 px"}]
    with (tmp_path / "scores" / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["psnr"], row["fid"], row["n"]) == ("23.0", "", "2")
    with (tmp_path / "scores" / "pictures.csv").open() as file:
        assert [(line["key"], line["psnr"]) for line in csv.DictReader(file)] == [("sub/a", "24.0"), ("sub/b", "22.0")]
    printed = capsys.readouterr().out
    assert "95% 22 to 24; enlarged LQ 20" in printed
    assert not (tmp_path / "scores" / "before_after.png").exists()


def test_infinite_scores_of_a_picture_are_null_free_json(evaluated, tmp_path):
    evaluated.pictures["sub/a"]["psnr"] = math.inf
    report_scores(tmp_path, evaluated)
    json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)


def test_sheet_shows_lq_enlarged_restored_and_hq(evaluated, photos, tmp_path):
    pictures = shown(photos)
    report_scores(tmp_path, evaluated, pictures)
    with Image.open(tmp_path / "before_after.png") as image:
        sheet = np.array(image)
    # HQ of 128x96 px is doubled: find its pixels, and the two others left of it
    doubled = [np.kron(one.permute(1, 2, 0).numpy(), np.ones((2, 2, 1), np.uint8)) for one in vars_of(pictures[0])]
    top, left = place_of(doubled[2], sheet)
    height, width = doubled[2].shape[:2]
    restored = sheet[top : top + height, left - 264 : left - 264 + width]
    assert np.array_equal(restored, doubled[1])
    lq = sheet[top : top + height, left - 528 : left - 528 + width]
    assert np.array_equal(lq[::8, ::8], pictures[0].lq.permute(1, 2, 0).numpy())


def vars_of(one):
    return one.lq, one.restored, one.hq


def place_of(part, sheet):
    rows = np.lib.stride_tricks.sliding_window_view(sheet[:, :, 0], (8, 8))
    candidates = np.argwhere((rows == part[:8, :8, 0]).all(axis=(2, 3)))
    (found,) = (
        place
        for place in candidates
        if np.array_equal(sheet[place[0] : place[0] + part.shape[0], place[1] : place[1] + part.shape[1]], part)
    )
    return found


def test_report_shows_pictures_where_references_are_known(evaluated, photos, tmp_path):
    references = {}
    for n, key in enumerate(evaluated.pictures):
        for folder in ("restored", "hq"):
            path = tmp_path / folder / f"{key}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photos[n]).save(path)
        references[key] = Picture(key, path, path.name)
    report_scores(tmp_path, evaluated, references=references)
    page = (tmp_path / "report.html").read_text()
    assert "sub/a (PSNR" in page and "enlarged LQ" in page
    report_scores(tmp_path, evaluated)
    assert "sub/a (PSNR" not in (tmp_path / "report.html").read_text()


def test_summary_of_restored_pictures(tmp_path, capsys):
    failures = [Failure("a.png", "truncated")]
    report_restored(tmp_path, {"made": 6, "seconds": 3.0, "failures": failures})
    printed = capsys.readouterr().out
    for words in ("restored now        6", "2.00 images/s", "a.png: truncated", str(tmp_path / "restored")):
        assert words in printed
    report_restored(tmp_path, {"made": 0, "seconds": 3.0, "failures": []})
    printed = capsys.readouterr().out
    assert "speed" not in printed and "skipped" not in printed
