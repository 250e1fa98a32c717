import numpy as np
import pytest
import torch

from ddpm_pairs.degradations import HQPreparation
from ddpm_pairs.degradations.ops.sharpen import unsharp_mask


def batch_of(photos):
    return torch.stack([torch.tensor(photo).permute(2, 0, 1).float() / 255 for photo in photos])


def test_what_is_drawn_is_done(photos):
    hq = batch_of(photos)
    drawn = [{"sharpened": bool(n & 1), "gray": bool(n & 2)} for n in range(4)]
    plain, sharp, gray, both = HQPreparation().apply(hq, drawn)
    assert torch.equal(plain, hq[0])
    assert torch.equal(sharp, (unsharp_mask(hq[1:2])[0] * 255).round() / 255)
    assert not torch.equal(sharp, hq[1])
    weights = np.array([0.299, 0.587, 0.114])
    luma = (photos[2] @ weights).round()
    assert np.abs(gray[0].numpy() * 255 - luma).max() <= 1 and torch.equal(gray[0], gray[1])
    assert torch.equal(both[0], both[2]) and both.std() > batch_of(photos)[3].mean(dim=0).std()


def test_all_pictures_are_sharpened_and_a_share_is_gray():
    preparation = HQPreparation(sharpen=True, gray=0.2)
    generator = torch.Generator().manual_seed(0)
    drawn = [preparation.draw(generator) for _ in range(4000)]
    assert all(one["sharpened"] for one in drawn)
    assert abs(sum(one["gray"] for one in drawn) - 800) < 4 * np.sqrt(4000 * 0.2 * 0.8)
    assert HQPreparation().draw(generator) == {"sharpened": False, "gray": False}


def test_no_share():
    with pytest.raises(ValueError, match="share of gray HQ images: got 1.2; expected a number from 0 to 1"):
        HQPreparation(gray=1.2)
