"""When a discriminator is said to have won, or to learn nothing."""

import math

import pytest
import torch

from ddpm_pairs.training.watch import DiscriminatorWatch


def watched(losses, window=10):
    watch = DiscriminatorWatch(window=window)
    return [watch.update(torch.tensor(loss)) for loss in losses]


def test_at_zero():
    with pytest.warns(UserWarning, match="0.0010 per image over the last 10 iterations: it recognizes all gen"):
        said = watched([0.002] * 10)
    assert said[:9] == [None] * 9
    assert "Lower its learning rate" in said[9]


def test_stuck_at_a_guess():
    with pytest.warns(UserWarning, match="stayed at 0.693 per image .*it learns nothing"):
        watched([2 * math.log(2) + 0.01, 2 * math.log(2) - 0.01] * 5)


@pytest.mark.parametrize(
    "losses",
    [
        [1.0] * 10,
        [0.6, 2.2] * 5,  # .7 on average, but moving
        [0.001] * 9 + [1.0],
        [0.001] * 9,
    ],
)
def test_a_discriminator_at_work(losses, recwarn):
    assert watched(losses) == [None] * len(losses)
    assert len(recwarn) == 0


def test_each_window_counts_by_itself():
    with pytest.warns(UserWarning):
        said = watched([1.0] * 10 + [0.001] * 10)
    assert [n for n, one in enumerate(said) if one] == [19]
