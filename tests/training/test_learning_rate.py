"""Schedules that are functions of the step."""

import pytest
import torch

from ddpm_pairs.training.learning_rate import LinearOrHalved


def schedule(decay_from, total, halve_at, rate=1.0):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], rate)
    return optimizer, LinearOrHalved(optimizer, decay_from, total, halve_at)


def rates(optimizer, steps, count):
    found = []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        steps.step()
    return found


def test_constant_then_linear():
    assert rates(*schedule(2, 6, ()), 8) == [1, 1, 1, 0.75, 0.5, 0.25, 0, 0]


def test_halved():
    assert rates(*schedule(None, -1, (2, 3)), 5) == [1, 1, 0.5, 0.25, 0.25]


def test_a_checkpoint_brings_only_the_step():
    optimizer, before = schedule(2, 6, ())
    rates(optimizer, before, 4)
    optimizer, after = schedule(2, 10, (4,), rate=0.1)
    after.load_state_dict(before.state_dict())
    assert optimizer.param_groups[0]["lr"] == after.get_last_lr()[0] == pytest.approx(0.1 * 0.75 / 2)
    assert rates(optimizer, after, 2)[1] == pytest.approx(0.1 * 0.625 / 2)
