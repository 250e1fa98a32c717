import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_pairs.images.find import find_pictures
from ddpm_pairs.metrics.features import RandomFeatures, extract
from ddpm_pairs.metrics.set_scores import set_scores
from ddpm_pairs.reports.scoring.compute import score

CPU = torch.device("cpu")


def found(folder):
    return find_pictures(folder, "RESULT")[0]


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
    assert "equal size" in next(one.reason for one in scores.failures if one.source == "sub/0.png")
    (alone,) = (one.reason for one in scores.failures if one.source == "alone.png")
    assert alone == "40x40 px is smaller than a patch of 64 px"


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
    assert "no image of RESULT has the same key" in scores.notes["psnr"]
    same = score(found(reference_dir), found(reference_dir), ("psnr", "ssim"), None, None, None, CPU)
    assert same.values["psnr"] is None
    assert same.values["ssim"] == pytest.approx(1)
    assert "4 images equal their reference" in same.notes["psnr"]
