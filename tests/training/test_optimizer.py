import math
import warnings

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from ddpm_pairs.errors import UserError
from ddpm_pairs.training.learning_rate import WarmupDecay
from ddpm_pairs.training.optimizer import Adam


def steps_of(optimizer_class, states_in=None, **options):
    """A convolution's weights after a step, a loaded state and a second step."""
    generator = torch.Generator().manual_seed(0)
    weights = nn.Parameter(torch.randn(4, 3, 3, 3, generator=generator))
    optimizer = optimizer_class([weights], lr=0.1, **options)
    weights.grad = torch.randn(weights.shape, generator=generator)
    optimizer.step()
    saved = optimizer.state_dict()
    for state in saved["state"].values():
        for name in ("exp_avg", "exp_avg_sq"):
            state[name] = state[name].contiguous(memory_format=states_in or torch.contiguous_format)
    optimizer.load_state_dict(saved)
    weights.grad = torch.randn(weights.shape, generator=generator)
    optimizer.step()
    return weights.detach()


def test_a_state_of_another_layout_goes_on_alike():
    expected = steps_of(torch.optim.Adam)
    found = steps_of(Adam, torch.channels_last, fused=True)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_gradients_are_clipped_in_mixed_precision(precision, tmp_path):
    class Steep(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.weights = nn.Parameter(torch.zeros(2))

        def training_step(self, batch, batch_idx):
            return (self.weights * torch.tensor([30.0, 40.0])).sum()

        def configure_optimizers(self):
            return Adam(self.parameters(), lr=1.0, fused=True)

        def configure_gradient_clipping(self, optimizer, **options):
            super().configure_gradient_clipping(optimizer, **options)
            self.clipped = self.weights.grad.clone()

    module = Steep()
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=1,
        precision=precision,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, DataLoader([0.0]))
    torch.testing.assert_close(module.clipped, torch.tensor([0.6, 0.8]))


def resumed(before, after):
    """Learning rates after steps 0, 1, 2, ... of a resumed fit, which has taken two steps of ten before.

    Args:
        before: Learning rate, warmup steps and length of the decay of the interrupted fit.
        after: Those typed when it is resumed.
    """

    def make(rate, warmup, total):
        optimizer = Adam([nn.Parameter(torch.ones(2))], lr=rate)
        return optimizer, WarmupDecay(optimizer, warmup, total)

    def steps(optimizer, scheduler, count):
        rates = [optimizer.param_groups[0]["lr"]]
        for _ in range(count):
            optimizer.step()
            scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
        return rates

    first, second = make(*before), make(*after)
    steps(*first, 2)
    for old, new in zip(first, second, strict=True):
        new.load_state_dict(old.state_dict())
    return steps(*second, 8)


@pytest.mark.filterwarnings("ignore:the decay of the learning rate")
@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        # Nothing changed: 1% + 99% (1 + cos(pi s / 4)) / 2 from s = 2 on, then 1%.
        ((0.1, 0, 4), (0.1, 0, 4), {0: 0.0505, 1: 0.0154982, 2: 0.001, 8: 0.001}),
        ((0.1, 0, None), (0.1, 0, None), {0: 0.1, 8: 0.1}),
        # A lower rate counts from the first step on, and keeps its place in the decay.
        ((0.1, 0, 4), (0.01, 0, 4), {0: 0.00505, 2: 0.0001}),
        ((0.1, 0, None), (0.01, 0, None), {0: 0.01, 8: 0.01}),
        # A longer decay continues from the 50.5% that were reached: 25.75% in the middle of 2..8, and no jump.
        ((0.1, 0, 4), (0.1, 0, 8), {0: 0.0505, 3: 0.02575, 6: 0.001, 8: 0.001}),
        ((0.1, 0, 4), (0.01, 0, 8), {0: 0.00505, 3: 0.002575, 6: 0.0001}),
        ((0.1, 0, 2), (0.1, 0, 8), {0: 0.001, 3: 0.001, 6: 0.001}),  # it was at its end
        ((0.1, 0, 8), (0.1, 0, 4), {0: 0.1 * (0.505 + 0.495 * 2**-0.5), 2: 0.001}),
        ((0.1, 0, None), (0.1, 0, 4), {0: 0.1, 1: 0.0505, 2: 0.001}),  # a decay that only the resumed fit has
        ((0.1, 0, 4), (0.1, 0, None), {0: 0.1, 8: 0.1}),
        # Warmup over three steps, or over none.
        ((0.1, 3, None), (0.1, 3, None), {0: 0.075, 1: 0.1}),
        ((0.1, 3, None), (0.1, 0, None), {0: 0.1}),
        ((0.1, 3, 4), (0.1, 3, 8), {0: 0.75 * 0.0505, 3: 0.02575}),
    ],
)
def test_learning_rates_of_a_resumed_fit(before, after, expected):
    found = resumed(before, after)
    assert {step: found[step] for step in expected} == pytest.approx(expected, rel=1e-5)


def test_a_changed_decay_is_said_and_lasts_over_a_second_resumption():
    optimizer = Adam([nn.Parameter(torch.ones(2))], lr=0.1)
    first = WarmupDecay(optimizer, 0, 4)
    for _ in range(2):
        optimizer.step()
        first.step()
    second, third = WarmupDecay(optimizer, 0, 8), WarmupDecay(optimizer, 0, 8)
    with pytest.warns(UserWarning, match=r"continues from 0.505 of --model.learning_rate at step 2 to 0.01 at step 8"):
        second.load_state_dict(first.state_dict())
    for _ in range(3):
        optimizer.step()
        second.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        third.load_state_dict(second.state_dict())
    assert third.get_last_lr() == second.get_last_lr() == pytest.approx([0.02575])
    assert third.factor(6) == second.factor(6)


def test_a_checkpoint_of_an_earlier_version_resumes_its_decay():
    """Its schedule was a LambdaLR, which saves neither warmup nor length."""
    optimizer = Adam([nn.Parameter(torch.ones(2))], lr=0.1)
    earlier = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.505 + 0.495 * math.cos(math.pi * step / 4))
    optimizer.step()
    earlier.step()
    scheduler = WarmupDecay(Adam([nn.Parameter(torch.ones(2))], lr=0.1), 0, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler.load_state_dict(earlier.state_dict())
    assert scheduler.get_last_lr() == pytest.approx([0.1 * (0.505 + 0.495 * 2**-0.5)])
    assert (scheduler.decays_from, scheduler.last_epoch) == (0, 1)


@pytest.mark.parametrize("option", [{"lr": 0.3}, {"betas": (0.1, 0.2)}, {"eps": 0.5}, {"weight_decay": 0.25}])
def test_options_are_those_of_the_config_and_moments_those_of_the_checkpoint(option):
    first, second = (nn.Parameter(torch.ones(2)) for _ in range(2))
    before, after = Adam([first], lr=0.1), Adam([second], **({"lr": 0.1} | option))
    first.grad = torch.tensor([1.0, 2.0])
    before.step()
    after.load_state_dict(before.state_dict())
    (name, value), (group,) = *option.items(), after.param_groups
    assert group[name] == value
    torch.testing.assert_close(after.state[second]["exp_avg"], torch.tensor([0.1, 0.2]))


@pytest.mark.parametrize("shapes", [[[3]], [[2], [2]], [[2, 2]]])
def test_the_state_of_other_parameters_is_refused(shapes):
    weights = nn.Parameter(torch.ones(2))
    before = Adam([weights], lr=0.1)
    weights.grad = torch.ones(2)
    before.step()
    after = Adam([{"params": [nn.Parameter(torch.ones(shape))]} for shape in shapes], lr=0.1)
    with pytest.raises(UserError, match=r"--ckpt_path contains the optimizer of \[1\] parameters per learning rate"):
        after.load_state_dict(before.state_dict())
