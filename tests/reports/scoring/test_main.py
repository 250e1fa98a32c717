import csv
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_pairs.cli.main import main
from ddpm_pairs.images.find import find_pictures
from ddpm_pairs.metrics.features import RandomFeatures, extract
from ddpm_pairs.metrics.set_scores import set_scores
from ddpm_pairs.reports.scoring.main import score

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folders(tmp_path, photos):
    """A folder of four photographs and one of the same 10 levels brighter."""
    for name, shift in (("reference", 0), ("result", 10)):
        for number, photo in enumerate(photos):
            flat = (photo * 0.8).astype(np.uint8)
            path = tmp_path / name / "sub" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(flat + np.uint8(shift)).save(path)
    return tmp_path / "result", tmp_path / "reference"


def found(folder):
    return find_pictures(folder, "RESULT")[0]


def test_the_verb_writes_paired_scores(folders, tmp_path, capsys):
    result, reference = folders
    out = tmp_path / "scores"
    assert main(["score", str(result), str(reference), "--output_dir", str(out), "--metrics", "psnr,ssim"]) == 0
    document = json.loads((out / "metrics.json").read_text())
    assert document["psnr"] == pytest.approx(20 * np.log10(255 / 10), abs=1e-4)
    assert 0.9 < document["ssim"] < 1
    assert (document["n"], document["fid"], document["lpips"]) == (4, None, None)
    assert document["intervals"]["psnr"] == pytest.approx([document["psnr"]] * 2)
    with (out / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["psnr"]) == document["psnr"]
    assert (row["fid"], row["n"]) == ("", "4")
    with (out / "pictures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [line["key"] for line in rows] == [f"sub/{n}" for n in range(4)]
    assert "psnr" in capsys.readouterr().out


def test_set_scores_of_whole_pictures_are_those_of_the_network(folders):
    result, reference = (found(folder) for folder in folders)
    scores = score(result, reference, ("fid", "kid"), None, RandomFeatures(), None, CPU)
    stacks = [
        torch.stack([torch.from_numpy(np.array(Image.open(one.path))).permute(2, 0, 1) for one in group])
        for group in (result, reference)
    ]
    expected = set_scores(*(extract(RandomFeatures(), [stack]) for stack in stacks))
    assert scores.values["fid"] == pytest.approx(expected.fid, rel=1e-4)
    assert scores.values["fid192"] == pytest.approx(expected.fid192, rel=1e-4)
    assert scores.values["kid"] == pytest.approx(expected.kid, rel=1e-3)
    assert scores.values["psnr"] is None
    assert scores.n == 4


def test_features_of_the_reference_are_kept_until_a_file_changes(folders):
    result, reference = (found(folder) for folder in folders)

    class Counting(RandomFeatures):
        seen = 0

        def forward(self, pictures):
            Counting.seen += len(pictures)
            return super().forward(pictures)

    def run():
        before = Counting.seen
        value = score(result, reference, ("fid",), None, Counting(), None, CPU).values["fid"]
        return value, Counting.seen - before

    first, again = run(), run()
    assert first[1] == 8
    assert again == (first[0], 4)
    Image.new("RGB", (64, 64)).save(reference[0].path)
    changed = run()
    assert changed[1] == 8
    assert changed[0] != first[0]


def test_patches_are_equally_many_and_come_with_a_floor(folders):
    result, reference = (found(folder) for folder in folders)
    scores = score(result, reference, ("fid", "kid"), 32, RandomFeatures(), None, CPU)
    # 96x128 holds 3x4 patches; half of the references has two pictures
    assert scores.settings["patches"] == scores.n == 24
    assert set(scores.floor) == {"fid", "fid192", "kid"}
    assert score(reference, reference, ("fid",), 32, RandomFeatures(), None, CPU).values["fid"] == pytest.approx(
        0, abs=1e-6
    )


def test_what_cannot_be_scored_is_reported(folders):
    result_dir, reference_dir = folders
    (result_dir / "torn.png").write_bytes(b"no picture")
    Image.new("RGB", (40, 40)).save(result_dir / "sub" / "0.png")
    Image.new("RGB", (40, 40)).save(result_dir / "alone.png")
    scores = score(found(result_dir), found(reference_dir), ("fid", "psnr"), 64, RandomFeatures(), None, CPU)
    assert len(scores.pictures) == 3
    sources = [failure.source for failure in scores.failures]
    assert sorted(sources) == ["alone.png", "sub/0.png", "sub/0.png", "torn.png"]
    assert "one size" in next(one.reason for one in scores.failures if one.source == "sub/0.png")
    (alone,) = (one.reason for one in scores.failures if one.source == "alone.png")
    assert alone == "40x40 px, smaller than a patch of 64 px"


def test_a_torn_reference_is_reported_every_time(folders):
    result_dir, reference_dir = folders
    (reference_dir / "torn.png").write_bytes(b"no picture")
    for _ in range(2):
        scores = score(found(result_dir), found(reference_dir), ("fid",), None, RandomFeatures(), None, CPU)
        assert [failure.source for failure in scores.failures] == ["torn.png"]
        assert scores.values["fid"] is not None


def test_no_key_in_common_is_a_note_and_equal_pictures_are_left_out_of_the_mean(folders, tmp_path):
    result_dir, reference_dir = folders
    (result_dir / "sub").rename(result_dir / "other")
    scores = score(found(result_dir), found(reference_dir), ("psnr",), None, None, None, CPU)
    assert scores.values["psnr"] is None
    assert "no picture of RESULT" in scores.notes["psnr"]
    same = score(found(reference_dir), found(reference_dir), ("psnr", "ssim"), None, None, None, CPU)
    assert same.values["psnr"] is None
    assert same.values["ssim"] == pytest.approx(1)
    assert "4 pictures equal their reference" in same.notes["psnr"]


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("DDPM_PAIRS_WEIGHTS"), reason="$DDPM_PAIRS_WEIGHTS is not set: no real metric weights"
)
def test_a_folder_against_itself_with_real_weights(folders, tmp_path):
    out = tmp_path / "scores"
    assert main(["score", str(folders[1]), str(folders[1]), "--output_dir", str(out)]) == 0
    document = json.loads((out / "metrics.json").read_text())
    assert abs(document["fid"]) < 1e-2 and abs(document["fid192"]) < 1e-2
    assert document["lpips"] == pytest.approx(0, abs=1e-6)
    assert document["ssim"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--metrics", "psnr,fud"], "--metrics: 'fud' is unknown"),
        (["--metrics", "psnr", "--patch", "8"], "--patch is 8: expected 32 px or more"),
        (["--metrics", "fid"], "Inception (FID, KID) are missing"),
    ],
)
def test_wrong_words_are_one_line(folders, tmp_path, monkeypatch, capsys, words, line):
    monkeypatch.setenv("DDPM_PAIRS_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", _no_network)
    assert main(["score", *map(str, folders), "--output_dir", str(tmp_path / "out"), *words]) == 2
    printed = capsys.readouterr().err
    assert line in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def _no_network(*_, **__):
    raise OSError("no network")
