import pytest
import torch

from ddpm_pairs.degradations.base import round_to_8_bit, working_lq_size


@pytest.mark.parametrize(
    ("size", "scale", "preset", "expected"),
    [
        ((64, 96), 4, "natural", (16, 24)),
        ((64, 96), 2, "natural", (32, 48)),
        ((17, 5), 1, "natural", (17, 5)),
        ((17, 5), 1, "faces", (5, 2)),
        ((512, 512), 1, "faces", (128, 128)),
    ],
)
def test_size_at_which_lq_is_made(size, scale, preset, expected):
    assert working_lq_size(*size, scale, preset) == expected


def test_rounding_is_to_the_nearest_level():
    levels = torch.tensor([-0.3, 0.0, 0.49, 0.51, 254.6, 255.0, 300.0]) / 255
    assert torch.equal(round_to_8_bit(levels) * 255, torch.tensor([0.0, 0, 0, 1, 255, 255, 255]))
