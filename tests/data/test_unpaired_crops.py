"""Crops of HQ and of unrelated LQ."""

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_pairs.data import UnpairedCrops
from ddpm_pairs.errors import UserError


def images(folder, levels, side):
    folder.mkdir(parents=True)
    for number, level in enumerate(levels):
        Image.fromarray(np.full((side, side, 3), level, np.uint8)).save(folder / f"{number:02}.png")
    return str(folder)


@pytest.fixture
def folders(tmp_path):
    """HQ with even levels below 100, LQ with levels of 100 and more."""
    return images(tmp_path / "hq", range(0, 20, 2), 64), images(tmp_path / "lq", range(100, 107), 32)


def built(folders, **options):
    data = UnpairedCrops(
        *folders, **{"crop_size": 64, "batch_size": 5, "num_workers": 0, "val_fraction": 0.2} | options
    )
    data.setup("fit")
    return data


def levels(data, samples):
    dataset = data.training_samples()
    both = [dataset[i] for i in range(samples)]
    return [int(hq.pixels[0, 0, 0]) for hq, _ in both], [int(lq.pixels[0, 0, 0]) for _, lq in both]


def test_lq_crops_have_the_size_that_the_scale_gives(folders):
    data = built(folders)
    batch = next(iter(data.train_dataloader()))
    batch = data.on_after_batch_transfer(data.on_before_batch_transfer(batch, 0), 0)
    assert set(batch) == {"hq", "lq", "key"}
    assert batch["hq"].shape == (5, 3, 64, 64) and batch["lq"].shape == (5, 3, 16, 16)
    assert batch["hq"].dtype == batch["lq"].dtype == torch.float32
    assert batch["hq"].max() < 100 / 255 <= batch["lq"].min()


def test_every_image_is_visited_once_per_epoch_and_the_sides_are_independent(folders):
    data = built(folders)
    n_hq, n_lq = len(data._hq.train_pictures), len(data._lq.train_pictures)
    hq, lq = levels(data, 4 * n_hq * n_lq)
    for first in range(0, len(hq) - n_hq + 1, n_hq):
        assert len(set(hq[first : first + n_hq])) == n_hq
    for first in range(0, len(lq) - n_lq + 1, n_lq):
        assert len(set(lq[first : first + n_lq])) == n_lq
    assert len(set(zip(hq, lq, strict=True))) > 0.8 * n_hq * n_lq  # not locked to each other


def test_one_folder_on_both_sides_is_not_locked_to_itself(folders):
    data = built((folders[1], folders[1]), crop_size=16, scale=1)
    hq, lq = levels(data, 60)
    assert hq != lq and set(hq) == set(lq)


def test_samples_depend_only_on_seed_and_number(folders):
    assert levels(built(folders), 30) == levels(built(folders), 30)
    assert levels(built(folders), 30) != levels(built(folders, seed=1), 30)


def test_validation_images_of_both_sides_are_not_trained_on(folders):
    data = built(folders)
    trained = [set(side) for side in levels(data, 300)]
    validated = [data.validation_samples()[j] for j in range(len(data.validation_samples()))]
    assert len(validated) == len(data._hq.val_pictures)
    for side, crops in zip(trained, zip(*validated, strict=True), strict=True):
        assert not side & {int(crop.pixels[0, 0, 0]) for crop in crops}


def test_halved_lq_are_hq_in_proportion_and_averaged(tmp_path, folders):
    checker = np.indices((64, 64)).sum(0) % 2 * 200
    folder = tmp_path / "checker"
    folder.mkdir()
    for number in range(7):
        Image.fromarray(np.repeat(checker[..., None], 3, 2).astype(np.uint8)).save(folder / f"{number}.png")
    data = built((folders[0], str(folder)), crop_size=32, halved_lq=True)
    samples = [data.training_samples()[i][0].pixels for i in range(400)]
    halved = [one for one in samples if one.max() >= 100]
    assert all(torch.equal(one, torch.full_like(one, 100)) for one in halved)  # the mean of 0 and 200
    counts = len(data._lq.train_pictures), len(data._hq.train_pictures)
    assert len(halved) / 400 == pytest.approx(counts[0] / sum(counts), abs=0.08)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"crop_size": 66}, "--data.crop_size: got 66; expected a multiple of 4"), ({"scale": 0}, "--data.scale: got 0")],
)
def test_options_are_checked(folders, options, said):
    with pytest.raises(UserError, match=said):
        built(folders, **options)


def test_names_the_option_of_a_missing_folder(folders, tmp_path):
    with pytest.raises(UserError, match="--data.lq_dir"):
        built((folders[0], str(tmp_path / "none")))
    with pytest.raises(UserError, match="--data.hq_dir"):
        built((str(tmp_path / "none"), folders[1]))


def test_too_large_crops_of_lq_are_refused_in_the_unit_of_the_option(folders, tmp_path):
    large = images(tmp_path / "large", range(3), 192)
    with pytest.raises(UserError, match="--data.crop_size: got 160; expected 128 or less, .* --data.lq_dir is 32 px"):
        built((large, folders[1]), crop_size=160)
