import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from ddpm_pairs.degradations import Blur, Chain, Degradation, Jpeg, Noise, Resize
from ddpm_pairs.degradations.ops.jpeg import jpeg


class Invert:
    """An operation of one's own, which halves the sides too."""

    def draw(self, generator):
        return {"strength": float(torch.rand((), generator=generator))}

    def apply(self, images, parameters, lq_size):
        assert lq_size == (24, 32)
        strength = torch.tensor([one["strength"] for one in parameters]).view(-1, 1, 1, 1)
        return F.avg_pool2d(1 - strength * images, 2)


def batch_of(photos, n=4):
    return torch.stack([torch.tensor(photo).permute(2, 0, 1).float() / 255 for photo in photos[:n]])


def full_chain(scale=4):
    operations = [
        Blur(),
        Resize((0.2, 1.3)),
        Noise(["gaussian", "poisson"], gray=0.4),
        Resize(),
        Blur(["sinc"], probability=0.5),
    ]
    return Chain([*operations, Jpeg(probability=0.8)], scale)


def draws_of(chain, n):
    return [chain.draw(torch.Generator().manual_seed(seed)) for seed in range(n)]


def test_operations_follow_in_their_order(photos):
    """The same by hand: down to a quarter by area, then JPEG."""
    hq = batch_of(photos, 2)
    chain = Chain([Resize((0.25, 0.25), ["area"]), Jpeg((50, 50))])
    lq = chain.apply(hq, draws_of(chain, 2))
    for row, picture in zip(lq, hq, strict=True):
        expected = jpeg(F.avg_pool2d(picture[None], 4), [50.0])[0]
        assert (row - expected).abs().max() <= 0.5 / 255 + 1e-6
        assert torch.equal((row * 255).round() / 255, row)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_chain_that_ends_elsewhere_is_resized_as_pil_does(photos, scale):
    hq = batch_of(photos, 2)
    chain = Chain([Resize((0.7, 0.7), ["bilinear"])], scale)
    lq = chain.apply(hq, draws_of(chain, 2))
    assert lq.shape == (2, 3, 96 // scale, 128 // scale)
    halfway = F.interpolate(hq, size=(67, 89), mode="bilinear", align_corners=False)
    for row, before in zip(lq, halfway, strict=True):
        image = Image.fromarray((before.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
        expected = np.asarray(image.resize((128 // scale, 96 // scale), Image.Resampling.BICUBIC)).astype(float)
        assert np.abs(row.permute(1, 2, 0).numpy() * 255 - expected).max() <= 2


def test_rows_depend_on_their_own_picture_and_parameters(photos):
    chain, hq = full_chain(), batch_of(photos)
    parameters = draws_of(chain, 4)
    lq = chain.apply(hq, parameters)
    assert not torch.equal(lq[0], lq[1])
    assert torch.equal(chain.apply(hq.flip(0), parameters[::-1]).flip(0), lq)
    others = chain.apply(torch.cat([hq[:1], hq[:1].expand(3, -1, -1, -1)]), [parameters[0]] * 4)
    assert torch.equal(others[0], lq[0])


def test_recorded_parameters_give_the_same_bits(photos):
    chain, hq = full_chain(), batch_of(photos)
    parameters = draws_of(chain, 4)
    assert draws_of(full_chain(), 4) == parameters
    assert torch.equal(full_chain().apply(hq, json.loads(json.dumps(parameters))), chain.apply(hq, parameters))


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("factor", [0.21, 0.5, 0.83, 1.37])
def test_content_stays_in_its_place(scale, factor):
    """A ramp of the coordinate comes out as the ramp of the LQ pixels' centres, to a tenth of an HQ pixel."""
    side = 96
    ramp = ((torch.arange(side) + 0.5) / side).expand(1, 3, side, side)
    chain = Chain([Resize((factor, factor)), Resize((1.1, 1.1), ["bicubic"])], scale)
    lq = chain.apply(ramp, draws_of(chain, 1))[0, 0].double()
    expected = (torch.arange(side // scale) + 0.5) / (side // scale)
    inner = slice(12 // scale + 2, -12 // scale - 2)
    assert abs(float((lq.mean(dim=0) - expected)[inner].mean())) * side < 0.1


def test_an_operation_of_ones_own(photos):
    chain, hq = Chain([Invert()]), batch_of(photos)
    parameters = draws_of(chain, 4)
    lq = chain.apply(hq, parameters)
    dark = 1 - parameters[2]["operations"][0]["strength"] * hq[2].mean()
    assert lq.shape == (4, 3, 24, 32)
    assert float(lq[2].mean()) == pytest.approx(float(dark), abs=2e-3)


def test_extremes_stay_in_range():
    chain = Chain([Blur(["sinc", "iso"], (0.1, 0.1)), Noise(sigma=(200, 200)), Resize((0.05, 2)), Jpeg((1, 1))])
    for value in (0.0, 1.0):
        lq = chain.apply(torch.full((4, 3, 16, 16), value), draws_of(chain, 4))
        assert lq.shape == (4, 3, 4, 4) and bool(torch.isfinite(lq).all())
        assert float(lq.min()) >= 0 and float(lq.max()) <= 1


def test_it_is_a_degradation_and_its_errors_are_one_line(photos):
    assert isinstance(full_chain(), Degradation)
    for make, text in (
        (lambda: Chain([]), "Chain.operations: got none"),
        (lambda: Chain([Jpeg()], 3), "chain scale: got 3"),
        (lambda: full_chain().apply(batch_of(photos)[..., :95, :], [{}] * 4), "expected multiples of 4"),
    ):
        with pytest.raises(ValueError, match=text) as caught:
            make()
        assert "\n" not in str(caught.value)
