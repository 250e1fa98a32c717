import json
import math

import pytest

from ddpm_pairs.metrics.set_scores import SetScores
from ddpm_pairs.study.cells import Cell, fine_power_falls
from ddpm_pairs.study.recommendation import recommend

COMMAND = "predict {} {}".format


def cell(degradation, t, kid, psnr, fid=None, fid192=None, fine=0.0):
    fid, fid192 = (kid if one is None else one for one in (fid, fid192))
    return Cell(degradation, t, None, SetScores(fid, fid192, kid, (kid, kid)), 1.0, (0.0, fine), psnr, psnr, 10)


CELLS = [
    cell("mild", 0, 6.0, 25.0),
    cell("mild", 50, 3.0, 23.5),
    cell("mild", 100, 2.0, 22.9),
    cell("rough", 0, 5.0, 21.0),
    cell("rough", 50, 4.0, 20.8),
    cell("rough", 100, 2.5, 19.1),
]


@pytest.mark.parametrize(
    ("drop", "floor", "expected"),
    [
        (2.0, None, ("rough", 100)),  # 1.9 dB below its start; mild at 100 is 2.1 below
        (1.5, None, ("mild", 50)),
        (None, None, ("mild", 100)),
        (2.0, 20.9, ("mild", 50)),
        (None, 24.0, ("mild", 0)),
    ],
)
def test_least_kid_among_those_that_keep_the_content(drop, floor, expected):
    chosen = recommend(CELLS, drop, floor, 0.1, COMMAND)
    assert (chosen.degradation, chosen.t) == expected
    assert chosen.command == f"predict {expected[0]} {expected[1]}"
    assert chosen.warnings == ()
    assert chosen.best_by_fid == chosen.best_by_fid192 == expected
    assert chosen.words.endswith("; FID agrees, fid192 agrees")


def test_it_says_when_fid_or_fid192_would_choose_otherwise():
    cells = [
        cell("mild", 0, 6.0, 25.0, fid=90.0, fid192=8.0),
        cell("mild", 50, 3.0, 24.0, fid=95.0, fid192=4.0),
        cell("mild", 100, 3.5, 23.5, fid=99.0, fid192=2.0),
        cell("mild", 150, 9.9, 22.5, fid=9.0, fid192=0.1),  # costs more than it may
    ]
    chosen = recommend(cells, 2.0, None, 0.1, COMMAND)
    assert (chosen.t, chosen.kid) == (50, 3.0)
    assert (chosen.best_by_fid, chosen.best_by_fid192) == (("mild", 0), ("mild", 100))
    assert chosen.words.endswith("; FID would choose mild with t = 0, fid192 would choose mild with t = 100")
    assert recommend(cells[:2], 2.0, None, 0.1, COMMAND).words.endswith("t = 0, fid192 agrees")


def test_among_cells_at_the_floor_the_least_fid192_decides():
    cells = [
        cell("mild", 0, 0.02, 25.0, fid192=9.0),
        cell("mild", 50, -0.001, 24.0, fid192=4.0),
        cell("mild", 100, 0.003, 23.5, fid192=3.0),
        cell("mild", 150, 0.005, 23.2, fid192=2.0),
    ]
    assert [recommend(cells, 2.0, None, floor, COMMAND).t for floor in (-0.01, 0.0, 0.004, 0.006)] == [50, 50, 100, 150]


def test_small_distances_keep_their_digits():
    cells = [cell("mild", 0, 0.123456, 25.0), cell("mild", 50, 0.00123456, 24.0)]
    words = recommend(cells, 2.0, None, 0.000123456, COMMAND).words
    assert "KID 0.00123 (0.123 at t = 0, 0.000123 for real vs. real)" in words
    assert "(KID 0.123)" in recommend(cells[:1], 2.0, None, 0.0, COMMAND).words


def test_it_says_when_no_t_helps_and_when_none_is_allowed():
    cells = [cell("mild", 0, 3.0, 25.0), cell("mild", 50, 3.5, 24.0)]
    assert recommend(cells, 2.0, None, 0.1, COMMAND).words.startswith("no t is closer")
    chosen = recommend(cells, None, 30.0, 0.1, COMMAND)
    assert chosen.t == 0
    assert "no cell has a median PSNR of 30.0 dB or more" in chosen.warnings[0]


def test_a_start_that_is_hq_itself_limits_nothing():
    cells = [cell("bicubic", 0, 9.0, math.inf), cell("bicubic", 50, 4.0, 31.0), cell("bicubic", 100, 2.0, 26.0)]
    chosen = recommend([*CELLS[:2], *cells], 2.0, None, 0.1, COMMAND)
    assert (chosen.degradation, chosen.t, chosen.psnr_least) == ("bicubic", 100, None)
    assert "LQ of bicubic at t = 0 equals HQ" in chosen.warnings[0]
    floored = recommend(cells, 2.0, 30.0, 0.1, COMMAND)
    assert (floored.t, floored.psnr_least, floored.warnings) == (50, 30.0, ())
    itself = recommend(cells[:1], 2.0, None, 0.1, COMMAND)
    assert json.loads(json.dumps(itself.as_dict(), allow_nan=False))["psnr_median"] is None


@pytest.mark.parametrize(
    ("fine", "falls"),
    [((0.0, -0.4, -1.1), True), ((-2.0, -2.5, -2.9), False), ((-2.0, -2.5, -3.1), True), ((3.0, 1.0, -0.5), False)],
)
def test_fine_power_that_falls_with_t_is_a_warning(fine, falls):
    cells = [cell("mild", t, 3.0 - t / 100, 25.0, fine=power) for t, power in zip((0, 50, 100), fine, strict=True)]
    assert fine_power_falls(cells[::-1]) is falls
    warned = any("undertrained DDPM" in one for one in recommend(cells, 2.0, None, 0.1, COMMAND).warnings)
    assert warned is falls
