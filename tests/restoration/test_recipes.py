"""The recipes of DSGAN's, DASR's, and PDM-SR's restorers: their steps by hand, and DASR's domain-distance weights."""

import copy

import pytest
import torch
import torch.nn.functional as F
from tiny_gan import RRDB_PAIRS, TinyPairs, batch_of, dasr_rrdb, dsgan_rrdb, pdm_rrdb, save_domain, tiny_domain, trainer
from torch import nn

from ddpm_pairs.degradations.learned.discriminators import PatchDiscriminator
from ddpm_pairs.degradations.ops.bands import gaussian_high, gaussian_low
from ddpm_pairs.errors import UserError
from ddpm_pairs.restoration.domain_weighted import DomainWeighted, domain_weights

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


class Edges(nn.Module):
    """A perceptual distance of horizontal differences."""

    def forward(self, restored, hq):
        return F.l1_loss(restored.diff(dim=3), hq.diff(dim=3))


def by_hand(module, steps, rates, betas, iteration):
    """Take steps as a plain loop in float64.

    Args:
        module: The module, which is not changed.
        steps: Their number.
        rates: The learning rate of each.
        betas: Adam's.
        iteration: (net, judge, batch) -> loss of the network and a function that returns that of the discriminator.

    Returns:
        The network and the discriminator.
    """
    net, judge = (copy.deepcopy(part).double() for part in (module.net, module.discriminator))
    adams = [torch.optim.Adam(part.parameters(), betas=betas) for part in (net, judge)]
    for step, rate in zip(range(steps), rates, strict=True):
        for adam in adams:
            adam.param_groups[0]["lr"] = rate
        batch = batch_of(step, 2, **RRDB_PAIRS)
        batch |= {name: batch[name].double() for name in ("hq", "lq", "real")}
        loss, criticism = iteration(net, judge, batch)
        adams[0].zero_grad()
        loss.backward()
        adams[0].step()
        adams[1].zero_grad()  # what the network's loss left in the discriminator
        criticism().backward()
        adams[1].step()
    return net, judge


def assert_steps_equal(module, iteration, betas=(0.9, 0.99), rate=1e-4):
    """Compare three steps of a fit, the third at half the learning rate, with a plain loop."""
    net, judge = by_hand(module, 3, [rate, rate, rate / 2], betas, iteration)
    before = copy.deepcopy(module.net)
    fit = trainer(3, precision="64-true", limit_val_batches=0)
    fit.fit(module, TinyPairs(**RRDB_PAIRS))
    for found, expected in ((module.net, net), (module.discriminator, judge)):
        for (name, one), other in zip(found.named_parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}")
    changed = zip(module.net.parameters(), before.parameters(), strict=True)
    assert all(not torch.equal(now, then.double()) for now, then in changed)


def bce(logits, label):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


class TestStepsByHand:
    """In float64, since Adam's first steps divide gradients by themselves."""

    def test_of_dsgan(self):
        def low(images):
            return F.avg_pool2d(images, 9, 1, 4, count_include_pad=False)

        def iteration(net, judge, batch):
            hq, restored = batch["hq"], net(batch["lq"])
            real, made = judge(hq), judge(restored)
            loss = 0.01 * F.l1_loss(low(restored), low(hq)) + Edges()(restored, hq)
            loss = loss + 0.005 * (bce(made - real.mean(), 1.0) + bce(real - made.mean(), 0.0)) / 2

            def criticism():
                real, made = judge(hq), judge(restored.detach())
                return bce(real - made.mean(), 1.0) + bce(made - real.mean(), 0.0)

            return loss, criticism

        assert_steps_equal(dsgan_rrdb(perceptual=Edges(), adversarial_weight=0.005), iteration)

    def test_of_pdm(self):
        def iteration(net, judge, batch):
            hq, restored = batch["hq"], net(batch["lq"])
            loss = F.l1_loss(restored, hq) + 0.05 * Edges()(restored, hq)
            loss = loss + 0.05 * (judge(restored) - 1).square().mean()
            return loss, lambda: (judge(hq) - 1).square().mean() + judge(restored.detach()).square().mean()

        assert_steps_equal(pdm_rrdb(perceptual=Edges(), perceptual_weight=0.05), iteration)

    def test_of_dasr(self):
        module = dasr_rrdb(perceptual=Edges(), low_weight=0.3)

        def iteration(net, judge, batch):
            hq, lq, real = batch["hq"], batch["lq"], batch["real"]
            weights = module.weights_of(lq)
            restored, of_real = net(lq), net(real)
            loss = (weights * (restored - hq).abs()).mean() + Edges()(restored, hq)
            loss = loss + 0.3 * F.l1_loss(gaussian_low(restored), gaussian_low(hq)) + 0.1 * bce(judge(of_real), 1.0)
            return loss, lambda: bce(judge(hq), 1.0) + bce(judge(of_real.detach()), 0.0)

        assert_steps_equal(module, iteration, betas=(0.9, 0.999))


class TestDomainWeights:
    def test_of_three_positions_in_a_row(self):
        """Patches of radius 1: each position is in those of itself and its neighbors."""
        scores = torch.tensor([0.2, 0.5, 0.8])
        found = domain_weights(scores.logit().view(1, 1, 1, 3), radius=1, factor=2)
        means = [(0.2 + 0.5) / 2, (0.2 + 0.5 + 0.8) / 3, (0.5 + 0.8) / 2]
        expected = torch.tensor([[means[0]] * 2 + [means[1]] * 2 + [means[2]] * 2] * 2)
        torch.testing.assert_close(found, expected.view(1, 1, 2, 6))

    def test_of_the_receptive_fields_of_a_discriminator(self):
        """Which pixels a patch contains is taken from its gradient."""
        torch.manual_seed(0)
        judge = PatchDiscriminator("haar", (4, 4), 3, "none")
        lq = torch.rand(1, 3, 12, 16).requires_grad_()
        logits = judge(lq)
        total, count = torch.zeros(12, 16), torch.zeros(12, 16)
        for logit in logits.flatten():
            (gradient,) = torch.autograd.grad(logit, lq, retain_graph=True)
            inside = (gradient.abs().sum((0, 1)) > 0).float()
            total += inside * logit.detach().sigmoid()
            count += inside
        assert count.min() == 3 * 3 and count.max() == 5 * 5
        torch.testing.assert_close(domain_weights(logits.detach(), judge.radius, judge.multiple)[0, 0], total / count)

    def test_of_a_module_cover_hq(self):
        module = dasr_rrdb()
        weights = module.weights_of(torch.rand(2, 3, 8, 12))
        assert weights.shape == (2, 1, 32, 48) and not weights.requires_grad
        assert 0 < weights.min() < weights.max() < 1


def test_the_domain_is_part_of_no_state_and_not_trained():
    module = dasr_rrdb()
    before = copy.deepcopy(module._domain[0].state_dict())
    trainer(1, limit_val_batches=0).fit(module, TinyPairs(**RRDB_PAIRS))
    assert {name.split(".")[0] for name in module.state_dict()} == {"net", "discriminator", "mean_path_length"}
    assert all(torch.equal(value, before[name]) for name, value in module._domain[0].state_dict().items())


def test_a_file_without_the_discriminator_ends_in_one_line(tmp_path):
    save_domain(tiny_domain(), tmp_path / "dasr.ckpt")
    save_domain(PatchDiscriminator("haar", (4, 6), 3, "instance"), tmp_path / "other.ckpt")
    torch.save({"state_dict": {"net.body.weight": torch.zeros(3)}}, tmp_path / "net.ckpt")
    for name, said in (
        (None, "--model.domain_from: got none; expected the checkpoint of a fit with dasr.yaml"),
        ("none.ckpt", "none.ckpt does not exist"),
        ("other.ckpt", "domain_from .*other.ckpt does not fit the PatchDiscriminator of the config: size mismatch"),
        ("net.ckpt", "domain_from .*net.ckpt does not fit the PatchDiscriminator of the config: Missing"),
    ):
        path = None if name is None else str(tmp_path / name)
        module = DomainWeighted(nn.Identity(), nn.Identity(), tiny_domain(), path)
        with pytest.raises(UserError, match=said) as caught:
            module.load()
        assert "\n" not in str(caught.value)


def test_the_gaussian_split_sums_to_the_image():
    images = torch.rand(2, 3, 9, 12)
    torch.testing.assert_close(gaussian_low(images) + gaussian_high(images), images)
    line = torch.exp(-((torch.arange(9) - 4.0) ** 2) / (2 * 1.5**2))
    kernel = (line[:, None] * line) / line.sum() ** 2
    padded = F.pad(images, (4, 4, 4, 4), mode="reflect")
    expected = F.conv2d(padded.flatten(0, 1)[:, None], kernel[None, None]).view_as(images)
    torch.testing.assert_close(gaussian_low(images), expected)
