import re

import pytest
import torch
from tiny_ddpm import tiny_denoiser

from ddpm_pairs.degradations import Walk
from ddpm_pairs.degradations.base import apply_with_start, degrade, lq_size
from ddpm_pairs.images.pixels import round_to_8_bit


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [((64, 96), 4, (16, 24)), ((64, 96), 2, (32, 48)), ((17, 5), 1, (17, 5)), ((17, 5), 4, (5, 2))],
)
def test_size_at_which_lq_is_made(size, scale, expected):
    assert lq_size(*size, scale) == expected


def test_rounding_is_to_the_nearest_level():
    levels = torch.tensor([-0.3, 0.0, 0.49, 0.51, 254.6, 255.0, 300.0]) / 255
    assert torch.equal(round_to_8_bit(levels) * 255, torch.tensor([0.0, 0, 0, 1, 255, 255, 255]))


class Own:
    """A degradation like one a user writes; ``apply`` returns the result of the given function."""

    name, scale = "own", 4

    def __init__(self, returned):
        self.returned = returned

    def draw(self, generator):
        return {}

    def apply(self, hq, parameters):
        return self.returned(hq)


WRONG = {
    "the size of HQ": (lambda hq: hq, "(N, 3, 64, 64), torch.float32; expected (N, 3, 16, 16)"),
    "one image": (lambda hq: hq[:1, :, ::4, ::4], "(1, 3, 16, 16)"),
    "bytes": (lambda hq: (hq[..., ::4, ::4] * 255).byte(), "(N, 3, 16, 16), torch.uint8; expected"),
    "nothing": (lambda hq: None, "a NoneType"),
}


@pytest.mark.parametrize(("returned", "said"), WRONG.values(), ids=WRONG)
def test_what_an_own_class_returns_is_checked(returned, said):
    own, hq = Own(returned), torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    walk = Walk(own, tiny_denoiser(), t=(1, 5))
    drawn = [walk.draw(torch.Generator().manual_seed(n)) for n in range(2)]
    for work in (
        lambda: degrade(own, hq),
        lambda: apply_with_start(own, hq, [{}, {}]),
        lambda: walk.apply(hq, drawn),
    ):
        with pytest.raises(ValueError, match="^Own.apply returned ") as caught:
            work()
        assert f"returned {said}" in re.sub(r"\((?:2|8), 3,", "(N, 3,", str(caught.value))  # a walk fills up to 8
