"""Feature alignment: steps by hand, the direction of the gradients, a planted world, and messages."""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from tiny_adaptation import network, real_batch
from tiny_baselines import alignment, assert_equal, fitted
from torch import nn

from ddpm_pairs.errors import UserError
from ddpm_pairs.restoration import FeatureAlignment, FeatureDiscriminator, Regression, RestorationUNet
from ddpm_pairs.restoration.adaptation.feature_alignment import Reversal

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


@pytest.fixture(autouse=True)
def own_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def features_of(net, lq):
    """The output of an RRDBNet's ``conv_body``, written out."""
    return net.conv_body(net.body(net.conv_first(lq)))


def domain_loss(discriminator, pairs, real):
    """Binary cross-entropy over both domains: real LQ is 1, that of pairs 0."""
    logits = torch.cat([discriminator(real), discriminator(pairs)])
    labels = torch.cat([torch.ones(len(real)), torch.zeros(len(pairs))]).view(-1, 1, 1, 1)
    return F.binary_cross_entropy_with_logits(logits, labels.expand_as(logits).to(logits.dtype))


def test_steps_by_hand():
    """In float64; gradients of the two networks are computed separately, so nothing is reversed here."""
    module = alignment(learning_rate=1e-3)
    net, discriminator = copy.deepcopy(module.net).double(), copy.deepcopy(module.discriminator).double()
    fit = fitted(module, 3, precision="64-true", limit_val_batches=0)
    optimizer = torch.optim.Adam([*net.parameters(), *discriminator.parameters()], 1e-3, (0.9, 0.99))
    for step, share in enumerate([0.848283640, 0.986614298, 0.986614298]):  # 2 / (1 + exp(-5 p)) - 1, p 1/2 and 1
        batch = {name: one.double() for name, one in real_batch(step).items() if name != "key"}
        pairs, real = features_of(net, batch["lq"]), features_of(net, batch["real"])
        domain = domain_loss(discriminator, pairs, real)
        pixel = F.l1_loss(net(batch["lq"]), batch["hq"])
        optimizer.zero_grad()
        (pixel - 0.5 * share * domain).backward(inputs=list(net.parameters()), retain_graph=True)
        domain.backward(inputs=list(discriminator.parameters()))
        optimizer.step()
    for found, expected in ((module.net, net), (module.discriminator, discriminator)):
        torch.testing.assert_close(list(found.parameters()), list(expected.parameters()), rtol=0, atol=2e-6)
    assert fit.logged_metrics["train/alpha"].item() == pytest.approx(0.5 * 0.986614298)
    assert fit.logged_metrics["train/domain"].item() == pytest.approx(domain.item(), abs=1e-5)


def test_the_reversal_raises_the_loss_that_the_discriminator_lowers():
    torch.manual_seed(0)
    discriminator = FeatureDiscriminator(8, (4,))
    features = [torch.randn(2, 8, 4, 4, requires_grad=True) for _ in range(2)]
    before = domain_loss(discriminator, *(Reversal.apply(one, 0.5) for one in features))
    before.backward()
    with torch.no_grad():
        moved = [one - 0.1 * one.grad / one.grad.norm() for one in features]
        assert domain_loss(discriminator, *moved) > before
        for parameter in discriminator.parameters():
            parameter -= 1e-3 * parameter.grad
        assert domain_loss(discriminator, *features) < before
    plain = torch.randn(3, requires_grad=True)
    Reversal.apply(plain, 0.25).sum().backward()
    assert torch.equal(plain.grad, torch.full((3,), -0.25))


class TwoLayers(nn.Module):
    """Features that need not contain what the restored image does not show."""

    def __init__(self):
        super().__init__()
        self.features, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)


def gap_after_training(weight):
    """Largest difference of a feature's means of two domains, in standard deviations.

    Real LQ is bluer than that of pairs, and the pixel loss compares red and green only.
    """
    torch.manual_seed(1)
    net, judge = TwoLayers(), FeatureDiscriminator(4, (8,))
    optimizer = torch.optim.Adam([*net.parameters(), *judge.parameters()], 5e-3, (0.5, 0.99))

    def batch(seed):
        lq = torch.rand(2, 8, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
        return lq[0], torch.cat([lq[1, :, :2], 0.5 + 0.5 * lq[1, :, 2:]], dim=1)

    for step in range(300):
        pairs, real = batch(step)
        features = net.features(pairs)
        loss = F.l1_loss(net.last(features)[:, :2], pairs[:, :2])
        loss = loss + domain_loss(judge, *(Reversal.apply(one, weight) for one in (features, net.features(real))))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert F.l1_loss(net.last(features)[:, :2], pairs[:, :2]) < 0.03
    with torch.no_grad():
        pairs, real = (net.features(one).transpose(0, 1).flatten(1) for one in batch(5000))
    return (2 * (pairs.mean(1) - real.mean(1)).abs() / (pairs.std(1) + real.std(1))).max().item()


def test_a_planted_world_of_two_domains():
    """Aligned features show less of the domain than those that the pixel loss alone trains."""
    assert gap_after_training(1.0) < 0.6 * gap_after_training(0.0)


def test_weight_zero_is_regression_bit_for_bit():
    options = {"learning_rate": 1e-3, "warmup_steps": 2}
    module, plain = alignment(weight=0, **options), Regression(network(), **options)
    fitted(module, 4)
    fitted(plain, 4)
    assert module.needs() == () and module.state_dict().keys() == plain.state_dict().keys()
    assert_equal(module, plain)


def test_no_hooks_and_no_features_are_left():
    module = alignment()
    fitted(module, 1)
    assert module._seen == [] and not module.net.conv_body._forward_hooks


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"features": "body.9"}, r"got 'body.9'; expected a layer of RRDBNet: conv_first, body, conv_body, .*body.0"),
        ({"weight": -1.0}, "--model.weight: got -1.0"),
        ({"ramp": 0}, "--model.ramp: got 0"),
    ],
)
def test_options_that_make_no_sense(options, said):
    with pytest.raises(UserError, match=said):
        alignment(**options)


def test_what_is_missing_or_does_not_fit():
    with pytest.raises(UserError, match="expected one, such as FeatureDiscriminator"):
        FeatureAlignment(network())
    with pytest.raises(UserError, match="expected positive numbers"):
        FeatureDiscriminator(8, ())
    with pytest.raises(UserError, match=r"got 4, but the features are \(2, 8, 4, 4\)"):
        fitted(FeatureAlignment(network(), FeatureDiscriminator(4)), 1)
    unet = FeatureAlignment(RestorationUNet([8, 8]), FeatureDiscriminator(8), features="encoder")
    unet.trainer = SimpleNamespace(accumulate_grad_batches=1, global_step=0)
    with pytest.raises(UserError, match="got encoder, which the network calls 0 times per image"):
        unet.training_step({name: torch.rand(1, 3, 8, 8) for name in ("lq", "hq", "real")}, 0)
