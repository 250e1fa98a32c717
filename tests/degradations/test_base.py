import pytest
import torch

from ddpm_pairs.degradations.base import lq_size
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
