import json

import numpy as np
import pytest
import torch

from ddpm_pairs.degradations import BandGain, Chain
from ddpm_pairs.images.pixels import resize_bicubic

LUMA = [1.0, 1.1, 1.0, 0.8, 0.6, 0.4, 0.3, 0.2]
CHROMA = [0.95, 0.7, 0.4, 0.2, 0.1, 0.1, 0.1, 0.1]
CENTRES = (np.arange(8) + 0.5) / 16


def response(operation, colour):
    """The gain at the horizontal frequencies 0/64 .. 32/64, of a small impulse of this colour on gray."""
    picture = torch.full((1, 3, 64, 64), 0.5)
    impulse = 0.1 * torch.tensor(colour)
    picture[0, :, 32, 32] += impulse
    change = operation.apply(picture, [{}], (64, 64)) - 0.5
    channels = impulse.nonzero()[:, 0]
    spectrum = np.abs(np.fft.fft2(change[0, channels].double().numpy())[:, 0, :33])
    return spectrum / np.abs(impulse[channels].double().numpy())[:, None]


def test_gray_follows_the_gains_of_luma():
    found = response(BandGain(LUMA, CHROMA), [1.0, 1.0, 1.0])
    expected = np.interp(np.arange(33) / 64, np.r_[0, CENTRES], np.r_[1, LUMA])
    for channel in found:
        np.testing.assert_allclose(channel, expected, atol=0.04)


def test_colour_without_luma_follows_the_gains_of_chroma():
    red = [0.587, -0.299, 0.0]  # Y = 0.299 R + 0.587 G + 0.114 B is 0
    red_minus_luma, green_minus_luma = response(BandGain(LUMA, CHROMA), red)
    expected = np.interp(np.arange(33) / 64, np.r_[0, CENTRES], np.r_[1, CHROMA])
    np.testing.assert_allclose(red_minus_luma, expected, atol=0.04)
    np.testing.assert_allclose(green_minus_luma, expected, atol=0.04)


def test_gains_of_one_change_nothing(photos):
    picture = torch.tensor(photos[0]).permute(2, 0, 1)[None].float() / 255
    torch.testing.assert_close(BandGain([1.0], [1.0, 1.0]).apply(picture, [{}], picture.shape[-2:]), picture)


def test_plain_colours_stay_to_the_border():
    picture = torch.tensor([0.2, 0.9, 0.4]).view(1, 3, 1, 1).expand(1, 3, 20, 30)
    torch.testing.assert_close(BandGain(LUMA, CHROMA).apply(picture, [{}], (20, 30)), picture)


def test_works_at_the_size_of_lq_and_within_a_chain(photos):
    hq = torch.stack([torch.tensor(photo).permute(2, 0, 1).float() / 255 for photo in photos[:3]])
    operation = BandGain(LUMA, CHROMA)
    expected = operation.apply(resize_bicubic(hq, (24, 32)), [{}] * 3, (24, 32))
    chain = Chain([operation])
    drawn = [chain.draw(torch.Generator()) for _ in hq]
    assert json.loads(json.dumps(drawn)) == [{"operations": [{}]}] * 3
    lq = chain.apply(hq, drawn)
    assert torch.equal(lq, (expected * 255).round() / 255)
    assert torch.equal(lq[1:2], chain.apply(hq[1:2], drawn[1:2]))


@pytest.mark.parametrize("gains", [[], [1.0, -0.1], [4.1], [float("nan")]])
def test_gains_that_are_none(gains):
    with pytest.raises(ValueError, match=r"BandGain.chroma: got .*; expected one gain per band, each from 0 to 4"):
        BandGain([1.0], gains)
