"""Tiny modules of the baselines of noise-space adaptation: feature alignment and self-consistency."""

import torch
from tiny_adaptation import SCALE, TinyReal, network
from tiny_ddpm import tiny_denoiser
from tiny_gan import trainer

from ddpm_pairs.degradations.learned.synthesizer import Synthesizer
from ddpm_pairs.restoration import FeatureAlignment, FeatureDiscriminator, SelfConsistency
from ddpm_pairs.restoration.adaptation.consistency import DegradedAgain, NoiseSpace


class NoisyMean(Synthesizer):
    """Average the pixels of each cell, and add noise from a seed."""

    name = "noisy_mean"

    def __init__(self, scale=SCALE, noise=0.01):
        super().__init__(scale, {"scale": scale, "noise": noise})
        self.gain = torch.nn.Parameter(torch.ones(()))
        self.amount = noise

    def draw(self, generator):
        return {"noise_seed": int(torch.randint(2**31, (), generator=generator))}

    def synthesize(self, hq, parameters):
        lq = torch.nn.functional.avg_pool2d(self.gain * hq, self.scale)
        generator = torch.Generator().manual_seed(parameters["noise_seed"])
        return lq + self.amount * torch.randn(lq.shape, generator=generator)


def alignment(weight=0.5, **options):
    net = network()
    return FeatureAlignment(net, FeatureDiscriminator(8, (4, 6)), weight=weight, **({"ramp": 2} | options))


def consistency(model=None, **options):
    """With a frozen model that is already loaded."""
    module = SelfConsistency(network(), **({"weight": 0.5} | options))
    module.consistency = model or DegradedAgain(NoisyMean())
    return module


def noise_consistency(t_range=(3, 40), **options):
    return consistency(NoiseSpace(tiny_denoiser((4, 8)), t_range), **options)


BASELINES = {"alignment": alignment, "degraded": consistency, "noise": noise_consistency}


def fitted(module, steps, **options):
    """The trainer of a fit of so many steps."""
    fit = trainer(steps, **options)
    fit.fit(module, TinyReal())
    return fit


def assert_equal(one, other):
    weights = dict(other.named_parameters())
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, weights[name]), name
