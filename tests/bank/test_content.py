"""Retrieval on planted codes, whose answer is known."""

import pytest
import torch
from tiny_bank import tiny_redegnet

from ddpm_pairs.bank.content import DEGRADATIONS, codes_of_degraded, retrieval
from ddpm_pairs.degradations.handcrafted.on_hq_grid import OnHQGrid

FACES, KINDS = 10, 8
CHANCES = {"chance_degradation": 9 / 79, "chance_face": 7 / 79}
"""Of the 79 other codes, 9 have the same degradation and 7 the same face."""


def planted(degradation, face, noise=0.0):
    """Codes that are a weighted sum of what the degradation and the face give."""
    random = torch.Generator().manual_seed(0)
    of_degradation = torch.randn(1, KINDS, 16, generator=random)
    of_face = torch.randn(FACES, 1, 16, generator=random)
    rest = torch.randn(FACES, KINDS, 16, generator=random)
    return degradation * of_degradation + face * of_face + noise * rest


@pytest.mark.parametrize(
    ("codes", "same_degradation", "same_face"),
    [
        (planted(1, 0, 0.01), 1.0, 0.0),
        (planted(0, 1, 0.01), 0.0, 1.0),
        (planted(1, 0), 1.0, 0.0),
        (planted(10, 1, 0.01), 1.0, 0.0),
        (planted(1, 10, 0.01), 0.0, 1.0),
    ],
)
def test_codes_of_one_thing_find_it_always_and_the_other_never(codes, same_degradation, same_face):
    found = retrieval(codes)
    assert (found.same_degradation, found.same_face) == (same_degradation, same_face)
    assert {name: getattr(found, name) for name in CHANCES} == pytest.approx(CHANCES)


def test_codes_without_meaning_are_at_chance():
    found = [retrieval(torch.randn(FACES, KINDS, 16, generator=torch.Generator().manual_seed(n))) for n in range(60)]
    for name in ("degradation", "face"):
        mean = sum(getattr(one, f"same_{name}") for one in found) / 60
        assert mean == pytest.approx(CHANCES[f"chance_{name}"], abs=0.02)


def test_the_distance_is_l1():
    """By L1, the first code is closest to the second (4 against 5); by L2, it would be the third (5 against 4)."""
    codes = torch.zeros(2, 2, 9)
    codes[0, 1, 0] = 4.0  # the same face
    codes[1, 0] = 5 / 9  # the same degradation
    codes[1, 1] = 100.0
    assert float((codes[0, 0] - codes[1, 0]).norm()) < 4 < float((codes[0, 0] - codes[1, 0]).abs().sum())
    found = retrieval(codes)
    # 00 -> 01 (4), 01 -> 00 (4), 10 -> 00 (5), 11 -> 10
    assert (found.same_face, found.same_degradation) == (3 / 4, 1 / 4)


def test_the_line_gives_the_chances():
    assert str(retrieval(planted(1, 0, 0.01))) == (
        "nearest codes: same degradation 100% (chance 11%), same face 0% (chance 9%); 10 faces x 8 degradations"
    )


def test_all_faces_get_the_same_degradations(photos):
    net, degradation = tiny_redegnet(), OnHQGrid("bicubic", 2)
    hq = torch.stack([torch.from_numpy(photo[:16, :16].copy()).permute(2, 0, 1) for photo in photos]).float() / 255
    codes = codes_of_degraded(net.deg, hq, degradation, 0)
    with torch.no_grad():
        expected = net.deg(hq, degradation.apply(hq, [degradation.draw(torch.Generator())] * 4))
    assert codes.shape == (4, DEGRADATIONS, 8)
    for number in range(DEGRADATIONS):
        torch.testing.assert_close(codes[:, number], expected)
    noisy = OnHQGrid("real_esrgan", 2)
    assert torch.equal(codes_of_degraded(net.deg, hq[:1], noisy, 3), codes_of_degraded(net.deg, hq[:1], noisy, 3))
    twice = codes_of_degraded(net.deg, hq[[0, 0]], noisy, 3)
    torch.testing.assert_close(twice[0], twice[1])
    assert (twice[0, 0] - twice[0, 1]).abs().max() > 1e-3
