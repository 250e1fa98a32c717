"""Crops of HQ alone."""

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_pairs.data import HighQualityCrops


@pytest.fixture
def faces(tmp_path):
    for n in range(4):
        Image.fromarray(np.full((32, 32, 3), 50 * n, np.uint8)).save(tmp_path / f"{n}.png")
    return str(tmp_path)


def test_pictures_of_the_crops_size_come_whole(faces):
    data = HighQualityCrops(faces, crop_size=32, batch_size=2, val_fraction=0.25, num_workers=0)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["hq"].shape == (2, 3, 32, 32)
    batch = data.on_after_batch_transfer(data.on_before_batch_transfer(batch, 0), 0)
    assert set(batch) == {"hq", "key"}
    assert batch["hq"].dtype == torch.float32
    expected = [50 * int(key) / 255 for key in batch["key"]]
    assert batch["hq"][:, 0, 0, 0].tolist() == pytest.approx(expected)


def test_names_its_option(tmp_path):
    with pytest.raises(ValueError, match="--data.hq_dir"):
        HighQualityCrops(str(tmp_path / "none")).find()
