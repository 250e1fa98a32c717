"""Pairs with unpaired real LQ and clean images."""

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_pairs.data import AdaptationImages, DegradedAdaptationImages, DegradedImages, RestorationPairs
from ddpm_pairs.errors import UserError


def images(folder, levels, side):
    folder.mkdir(parents=True)
    for number, level in enumerate(levels):
        Image.fromarray(np.full((side, side, 3), level, np.uint8)).save(folder / f"{number:02}.png")
    return str(folder)


@pytest.fixture
def folders(tmp_path):
    """Pairs with levels below 50, real LQ with levels from 100 to 106, clean images with levels of 200 and more."""
    images(tmp_path / "pairs" / "hq", range(0, 40, 4), 64)
    images(tmp_path / "pairs" / "lq", range(1, 40, 4), 32)
    return {
        "pairs_dir": str(tmp_path / "pairs"),
        "lq_dir": images(tmp_path / "real", range(100, 107), 48),
        "clean_dir": images(tmp_path / "clean", range(200, 205), 80),
    }


def built(folders, **options):
    data = AdaptationImages(
        **folders | {"crop_size": 32, "batch_size": 5, "num_workers": 0, "val_fraction": 0.2} | options
    )
    data.setup("fit")
    return data


def levels(samples):
    """Levels of HQ, LQ, real and clean crops, one row per sample."""
    return np.array(
        [
            [int(one.flatten()[0]) for one in (pair.hq, pair.lq, crops["real"].pixels, crops["clean"].pixels)]
            for pair, crops in samples
        ]
    )


def drawn(data, count):
    dataset = data.training_samples()
    return levels(dataset[i] for i in range(count))


def test_batches_hold_pairs_and_unpaired_crops_of_the_size_of_each_side(folders):
    data = built(folders)
    assert data.scale == 2
    batch = next(iter(data.train_dataloader()))
    batch = data.on_after_batch_transfer(data.on_before_batch_transfer(batch, 0), 0)
    assert set(batch) == {"hq", "lq", "real", "clean", "key"}
    shapes = {name: tuple(batch[name].shape) for name in ("hq", "lq", "real", "clean")}
    assert shapes == {name: (5, 3, side, side) for name, side in zip(shapes, (32, 16, 16, 32), strict=True)}
    assert all(batch[name].dtype == torch.float32 for name in shapes)
    ranges = {"hq": (0, 37), "lq": (0, 38), "real": (100, 106), "clean": (200, 204)}
    for name, (low, high) in ranges.items():
        assert low / 255 <= batch[name].min() and batch[name].max() <= high / 255 + 1e-6


def test_without_clean_images_there_are_none(folders):
    batch = next(iter(built(folders, clean_dir=None).train_dataloader()))
    assert set(batch) == {"hq", "lq", "real", "key", "failures"}


def test_pairs_stay_pairs_and_the_rest_is_drawn_independently(folders):
    data = built(folders)
    pairs, real, clean = data.epoch_samples, *(part.epoch_samples for part in parts(data))
    assert pairs == len(data.train_pairs[0])
    rows = drawn(data, 4 * pairs * real)
    assert (rows[:, 1] == rows[:, 0] + 1).all()
    for first in range(0, len(rows) - real + 1, real):  # each real image once per epoch
        assert len(set(rows[first : first + real, 2])) == real
    for column, count in ((2, real), (3, clean)):  # combinations that an index modulo the number never reaches
        assert len(set(zip(rows[:, 0], rows[:, column], strict=True))) > 0.8 * pairs * count


def parts(data):
    return [data._unpaired[name] for name in ("real", "clean")]


def test_pairs_are_those_of_restoration_pairs(folders):
    ours = built(folders).training_samples()
    plain = RestorationPairs(folders["pairs_dir"], crop_size=32, batch_size=5, num_workers=0, val_fraction=0.2)
    plain.setup("fit")
    theirs = plain.training_samples()
    assert all(torch.equal(ours[i][0].lq, theirs[i].lq) for i in range(40))


def test_samples_depend_only_on_seed_and_number(folders):
    assert (drawn(built(folders), 30) == drawn(built(folders), 30)).all()
    assert (drawn(built(folders), 30)[:, 2:] != drawn(built(folders, seed=1), 30)[:, 2:]).any()


def test_validation_images_are_not_trained_on(folders):
    data = built(folders)
    validated = levels(data.validation_samples()[j] for j in range(len(data.validation_samples())))
    trained = drawn(data, 200)
    assert len(validated) == len(data.val_pairs)
    for column in range(4):
        assert not set(validated[:, column]) & set(trained[:, column])


def test_real_crops_are_turned_and_flipped_but_not_resized(tmp_path, folders):
    corner = np.zeros((16, 16, 3), np.uint8)
    corner[:4, :8] = 255
    folder = tmp_path / "corner"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(corner).save(folder / f"{number}.png")

    def found(**options):
        dataset = built(folders, lq_dir=str(folder), **options).training_samples()
        return {dataset[i][1]["real"].pixels.numpy().tobytes() for i in range(100)}

    eight = {
        np.ascontiguousarray(np.rot90(one, turns).transpose(2, 0, 1)).tobytes()
        for one in (corner, corner[:, ::-1])
        for turns in range(4)
    }
    assert found() == eight
    assert found(flip=False, rotate=False) == {np.ascontiguousarray(corner.transpose(2, 0, 1)).tobytes()}


def test_unreadable_real_images_are_reported(folders, tmp_path):
    (tmp_path / "real" / "broken.png").write_bytes(b"not an image")
    assert [one.source for one in built(folders).failures] == ["broken.png"]


def test_a_fit_needs_real_images_but_a_test_does_not(folders):
    with pytest.raises(UserError, match="--data.lq_dir: got none"):
        built(folders, lq_dir=None)
    data = AdaptationImages(folders["pairs_dir"], num_workers=0)
    data.setup("test")
    assert next(iter(data.test_dataloader()))["hq"].shape == (1, 3, 64, 64)


def test_pairs_can_be_made_on_the_fly(folders):
    hq_dir, options = folders["pairs_dir"] + "/hq", {"crop_size": 32, "batch_size": 5, "num_workers": 0, "scale": 2}
    data = DegradedAdaptationImages(hq_dir, "bicubic", folders["lq_dir"], folders["clean_dir"], **options)
    plain = DegradedImages(hq_dir, "bicubic", **options)
    batches = []
    for one in (data, plain):
        one.setup("fit")
        batches.append(one.on_after_batch_transfer(next(iter(one.train_dataloader())), 0))
    assert set(batches[0]) == {"hq", "lq", "real", "clean", "key"}
    assert all(torch.equal(batches[0][name], batches[1][name]) for name in ("hq", "lq"))
    assert data.epoch_samples == len(data.train_pictures) < 10
    assert batches[0]["real"].shape == (5, 3, 16, 16) and 100 / 255 <= batches[0]["real"].min() < 107 / 255
    assert batches[0]["clean"].shape == (5, 3, 32, 32) and batches[0]["clean"].min() >= 200 / 255


@pytest.mark.parametrize("side", ["lq", "clean"])
def test_names_the_option_of_a_missing_folder_and_of_small_images(folders, side, tmp_path):
    option = f"--data.{side}_dir"
    with pytest.raises(UserError, match=option):
        built(folders | {f"{side}_dir": str(tmp_path / "none")})
    small = images(tmp_path / "small", range(3), 16)
    with pytest.raises(UserError, match=f"--data.crop_size: got 64; expected (32|16) or less, .* {option} is 16 px"):
        built(folders | {f"{side}_dir": small}, crop_size=64)
