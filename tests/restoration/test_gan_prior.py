"""The unconditional GAN beside what it shares with `Adversarial`, and its pictures."""

import copy

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import CSVLogger
from tiny_gan import NARROW, SIZE, TinyPairs, batch_of, prior, trainer

from ddpm_pairs.callbacks import PriorSamples
from ddpm_pairs.restoration.gan_prior import Prior
from ddpm_pairs.restoration.networks.gpen import StyleDecoder, StyleDiscriminator
from ddpm_pairs.tensors import seed_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


def test_a_step_by_hand():
    module = prior(r1_weight=0.0, path_weight=0.0)
    net, judge = copy.deepcopy(module.net).double(), copy.deepcopy(module.discriminator).double()
    trainer(2, precision="64-true", limit_val_batches=0).fit(module, TinyPairs())
    one, other = (torch.optim.Adam(part.parameters(), lr=2e-3, betas=(0.0, 0.99)) for part in (net, judge))
    for step in range(2):
        rows = [torch.Generator().manual_seed(seed_of("prior", 0, step, row)) for row in range(2)]
        shapes = [(512,), *net.noise_shapes]
        drawn = [
            torch.stack([torch.randn(shape, generator=row, dtype=torch.float64) for row in rows]) for shape in shapes
        ]
        made = net(drawn[0], drawn[1:])
        one.zero_grad()
        (-F.logsigmoid(judge(made)).mean()).backward()
        one.step()
        other.zero_grad()
        hq = batch_of(step, 2, SIZE, 1)["hq"].double()
        (-F.logsigmoid(judge(hq)).mean() - F.logsigmoid(-judge(made.detach())).mean()).backward()
        other.step()
    for found, expected in ((module.net, net), (module.discriminator, judge)):
        for (name, value), wanted in zip(found.named_parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(value, wanted, rtol=0, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}")


def test_samples_are_the_same_ones_at_every_time(tmp_path):
    module = prior()
    callback = PriorSamples(pictures=4, every_n_steps=2)
    logger = CSVLogger(tmp_path, name="logs")
    fit = trainer(4, callbacks=[callback], logger=logger, log_every_n_steps=1)
    fit.fit(module, TinyPairs())
    files = sorted(path.name for path in (tmp_path / "logs/version_0/samples").iterdir())
    assert files == ["step_0000002.png", "step_0000004.png"]
    samples = module.samples(3)
    assert samples.shape == (3, 3, SIZE, SIZE)
    assert samples.min() >= 0
    assert samples.max() <= 1
    assert torch.equal(samples[:2], module.samples(2))


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="--model.discriminator.size: got 32; expected 16"):
        Prior(StyleDecoder(SIZE, 1, NARROW), StyleDiscriminator(2 * SIZE, 1, NARROW))
    with pytest.raises(ValueError, match="--data.crop_size: got 64; expected 16"):
        prior().check(None, 64)
