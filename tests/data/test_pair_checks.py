import math

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from picture_pairs import flat_pair, flat_pairs, save_pair, spoil, write_manifest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from ddpm_pairs.data.pair_checks import check_pairs
from ddpm_pairs.data.pair_shift import shift_of, shifted_pairs
from ddpm_pairs.images.find import Failure
from ddpm_pairs.images.pixels import psnr_against_hq, psnr_of
from ddpm_pairs.pairset.sources import find_pairs


def place(root):
    return find_pairs(str(root), "--data.pairs_dir")


# Sizes


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_scale_is_found(tmp_path, scale):
    checked = check_pairs([place(flat_pairs(tmp_path, [1, 2], scale))])
    assert checked.scale == scale and checked.failures == []
    assert [pair.key for pair in checked.pairs[0]] == ["p001", "p002"]


def test_pairs_that_do_not_fit_are_listed_with_their_sizes(tmp_path):
    flat_pairs(tmp_path, [1, 2, 3])
    flat_pairs(tmp_path, [4], scale=2)
    flat_pairs(tmp_path, [5], height=12, width=40)
    save_pair(tmp_path, "p006", flat_pair(6)[0], flat_pair(6, height=52)[1])
    save_pair(tmp_path, "p007", *flat_pair(7))
    (tmp_path / "hq" / "p007.png").write_bytes(b"no picture")
    save_pair(tmp_path, "p008", *flat_pair(8))
    (tmp_path / "lq" / "p008.png").write_bytes(b"")
    checked = check_pairs([place(tmp_path)])
    assert checked.scale == 4 and [pair.key for pair in checked.pairs[0]] == ["p001", "p002", "p003"]
    reasons = {failure.source: failure.reason for failure in checked.failures}
    assert reasons["lq/p004.png"] == "got HQ of 40x48 px and LQ of 20x24 px; expected scale 4, as in most pairs"
    assert reasons["lq/p005.png"] == "got HQ of 40x12 px and LQ of 10x3 px; expected HQ sides of 16 px or more"
    assert (
        reasons["lq/p006.png"]
        == "got HQ of 40x48 px and LQ of 10x13 px; expected HQ sides of 1, 2 or 4 times the LQ sides"
    )
    assert "not a readable PNG" in reasons["hq/p007.png"] and reasons["lq/p008.png"] == "the file is empty"
    assert len(reasons) == 5


def test_places_share_one_scale(tmp_path):
    many = flat_pairs(tmp_path / "many", [1, 2, 3])
    few = flat_pairs(tmp_path / "few", [4], scale=2)
    save_pair(few, "p005", *flat_pair(5))
    checked = check_pairs([place(many), place(few)])
    assert checked.scale == 4 and [[p.key for p in pairs] for pairs in checked.pairs][1] == ["p005"]
    (few / "lq" / "p005.png").unlink()
    with pytest.raises(
        ValueError, match=r"--data.pairs_dir: none of the 1 pairs in .*few.* can be used \(lq/p004.png: got HQ"
    ):
        check_pairs([place(many), place(few)])


def test_no_pair_of_any_scale(tmp_path):
    save_pair(tmp_path, "a", np.zeros((48, 48, 3), np.uint8), np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(
        ValueError, match=r"none of the 1 pairs .*\(lq/a.png: got HQ of 48x48 px and LQ of 16x16 px; .*1, 2 or 4 times"
    ):
        check_pairs([place(tmp_path)])


def test_sizes_are_those_after_exif_orientation(tmp_path):
    hq, lq = flat_pair(1, height=64, width=32)
    save_pair(tmp_path, "a", hq, lq)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(hq).copy()).save(tmp_path / "hq" / "a.png", exif=exif)
    assert check_pairs([place(tmp_path)]).failures == []


# Likeness


def test_psnr_is_that_of_the_manifest(photos):
    hq = torch.from_numpy(photos[0].copy()).permute(2, 0, 1)
    for scale in (1, 2, 4):
        lq = F.avg_pool2d(hq.float(), scale).add(9).clamp(0, 255).to(torch.uint8)
        assert psnr_of(hq, lq) == pytest.approx(psnr_against_hq(hq, lq), abs=1e-4)  # it is rounded
        if scale == 1:
            assert psnr_of(hq, lq) == pytest.approx(peak_signal_noise_ratio(hq.numpy(), lq.numpy()), abs=1e-9)
    assert psnr_of(hq, hq) == math.inf


def test_the_floor_leaves_out_unlike_pairs(tmp_path):
    for number, error in enumerate((0, 10, 100)):
        hq = np.full((32, 32, 3), 100, np.uint8)
        save_pair(tmp_path, f"p{number}", hq, hq[::2, ::2] + np.uint8(error))
    assert len(check_pairs([place(tmp_path)]).pairs[0]) == 3
    checked = check_pairs([place(tmp_path)], psnr_floor=15)  # 20 log10(255 / 10) = 28.13, 255 / 100 gives 8.13
    assert [pair.key for pair in checked.pairs[0]] == ["p0", "p1"]
    assert checked.failures == [Failure("lq/p2.png", "PSNR of 8.1 dB is below --data.psnr_floor 15")]
    with pytest.raises(ValueError, match=r"none of the 1 pairs .*PSNR of 8.1 dB"):
        for key in ("p0", "p1"):
            (tmp_path / "hq" / f"{key}.png").unlink()
        check_pairs([place(tmp_path)], psnr_floor=15)


def test_the_floor_believes_a_manifest_and_decodes_other_pairs(tmp_path):
    flat_pairs(tmp_path, [1, 2, 3, 4])
    write_manifest(tmp_path, ["p001", "p002", "p003", "p004"], psnr={"p001": 3.0, "p002": None, "p003": 30.0})
    spoil(tmp_path / "hq" / "p003.png")
    spoil(tmp_path / "hq" / "p004.png")
    checked = check_pairs([place(tmp_path)], psnr_floor=10)
    assert [pair.key for pair in checked.pairs[0]] == ["p002", "p003"]
    assert [failure.source for failure in checked.failures] == ["lq/p001.png", "hq/p004.png"]
    assert "truncated" in checked.failures[1].reason


# Shift


def shifted(picture, down, right, scale):
    """HQ, and LQ that shows what lies (down, right) HQ pixels further up and left; uint8, by area means."""
    hq = picture[16:-16, 16:-16]
    moved = picture[16 - down : picture.shape[0] - 16 - down, 16 - right : picture.shape[1] - 16 - right]
    height, width = (length // scale for length in hq.shape[:2])
    lq = moved[: height * scale, : width * scale].reshape(height, scale, width, scale, 3).mean((1, 3))
    return hq[: height * scale, : width * scale], lq.round().astype(np.uint8)


def tensors(*sides):
    return [torch.from_numpy(side.copy()).permute(2, 0, 1) for side in sides]


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-7, 5)])
def test_shift_of_photographs(scale, shift):
    for photo in (skimage.data.astronaut(), skimage.data.chelsea(), skimage.data.coffee()):
        found = shift_of(*tensors(*shifted(photo, *shift, scale)))
        assert math.dist(found, shift) < 0.5


def test_shift_under_noise():
    rng = np.random.default_rng(0)
    hq, lq = shifted(skimage.data.astronaut(), 3, -2, 4)
    noisy = np.clip(lq + rng.normal(0, 15, lq.shape), 0, 255).astype(np.uint8)
    assert math.dist(shift_of(*tensors(hq, noisy)), (3, -2)) < 0.7


def test_pictures_without_likeness_have_no_shift():
    rng = np.random.default_rng(0)
    hq, lq = (rng.integers(0, 256, (side, side, 3), np.uint8) for side in (128, 32))
    assert shift_of(*tensors(hq, lq)) is None
    assert shift_of(*tensors(np.full_like(hq, 9), lq)) is None


def test_small_pictures_have_no_shift():
    hq, lq = shifted(skimage.data.astronaut()[:120, :200], 3, 0, 4)
    assert hq.shape[0] == 88 and shift_of(*tensors(hq, lq)) is None


def test_aligned_noisy_pairs_are_not_taken_for_shifted():
    """At 128 px the noise moves the best place by a pixel or two, but raises the correlation little."""
    rng = np.random.default_rng(0)
    photo = skimage.data.coffee()
    for top in range(0, 240, 40):
        hq, lq = shifted(photo[top : top + 160, 200:360], 0, 0, 4)
        noisy = np.clip(lq + rng.normal(0, 25, lq.shape), 0, 255).astype(np.uint8)
        assert math.hypot(*(shift_of(*tensors(hq, noisy)) or (0, 0))) < 1


def test_shifted_pairs_are_named_and_few_are_looked_at(tmp_path, monkeypatch):
    photo = skimage.data.astronaut()[:232, :232]
    for number in range(6):
        save_pair(tmp_path, f"p{number}", *shifted(photo, 4 * (number == 2), 0, 4))
    save_pair(tmp_path, "flat", *flat_pair(1))
    spoil(tmp_path / "hq" / "p5.png")
    pairs = place(tmp_path).pairs
    found, estimated = shifted_pairs(pairs)
    assert list(found) == ["p2"] and math.dist(found["p2"], (4, 0)) < 0.5 and estimated == 5
    monkeypatch.setattr("ddpm_pairs.data.pair_shift.PAIRS_LOOKED_AT", 2)
    assert shifted_pairs(pairs[1:6], seed=1)[1] == 2
