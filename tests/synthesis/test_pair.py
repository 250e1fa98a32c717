import pytest
import torch

from ddpm_pairs.synthesis.pair import is_accepted, quality, too_small


@pytest.mark.parametrize(
    ("psnr", "initial", "drop", "accepted"),
    [
        (20.0, 22.0, 2.0, True),
        (19.99, 22.0, 2.0, False),
        (25.0, 22.0, 0.0, True),  # it came nearer to HQ
        (21.9, 22.0, 0.0, False),
        (3.0, 40.0, None, True),
        (None, 22.0, 2.0, True),  # infinite is no drop
        (None, None, 0.0, True),
        (60.0, None, 2.0, False),  # from infinity down to 60 dB
        (60.0, None, None, True),
    ],
)
def test_gate(psnr, initial, drop, accepted):
    assert is_accepted(psnr, initial, drop) is accepted


def test_quality_names_both_and_judges_their_difference():
    hq = torch.full((3, 8, 8), 100, dtype=torch.uint8)
    # errors of 1, 2 and 3 levels: 48.13 dB, 6.02 less, 9.54 less
    found = quality(hq, hq + 1, hq + 2, 6.1)
    assert found["psnr_initial"] == pytest.approx(48.1308, abs=1e-4)
    assert found["psnr"] == pytest.approx(48.1308 - 6.0206, abs=1e-3)
    assert found["accepted"] is True
    assert quality(hq, hq + 1, hq - 3, 6.1)["accepted"] is False


def test_too_small_tells_the_size_and_what_is_needed():
    assert too_small(60, 90, 4) == "too small: 90x60, expected 64 px or more a side at scale 4"
