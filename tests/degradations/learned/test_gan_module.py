"""The trainer of learned degradations: its steps by hand, its checkpoints, two ranks, and what it says."""

import copy
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import CSVLogger
from tiny_gan import TinyPairs, batch_of, trainer
from tiny_learned import DATA, dasr_gan, dsgan_gan, pdm_gan, relativistic_gan, wasserstein_gan
from torch import nn

from ddpm_pairs.callbacks import EMA, LastCheckpoint, LearnedSamples, TrainingMonitor
from ddpm_pairs.degradations import by_name
from ddpm_pairs.degradations.learned.discriminators import PatchDiscriminator
from ddpm_pairs.degradations.learned.dsgan import DSGAN
from ddpm_pairs.degradations.learned.generator import reduced
from ddpm_pairs.degradations.learned.identity_watch import IdentityWatch
from ddpm_pairs.degradations.learned.module import DegradationGAN
from ddpm_pairs.errors import UserError
from ddpm_pairs.tensors import seed_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")
ALL = [dsgan_gan, dasr_gan, pdm_gan, relativistic_gan, wasserstein_gan]


class Edges(nn.Module):
    """A perceptual distance of horizontal differences."""

    def forward(self, made, start):
        return F.l1_loss(made.diff(dim=3), start.diff(dim=3))


def fitted(module, steps, callbacks=(), data=None, **options):
    fit = trainer(steps, callbacks=list(callbacks), **options)
    fit.fit(module, data or TinyPairs(**DATA))
    return fit


def assert_same(found, expected):
    expected = dict(expected.named_parameters())
    for name, parameter in found.named_parameters():
        torch.testing.assert_close(
            parameter, expected[name], rtol=0, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}"
        )


def adams(net, judge, **options):
    return tuple(torch.optim.Adam(part.parameters(), **options) for part in (net, judge))


def rows(step, count=2):
    return [torch.Generator().manual_seed(seed_of("synthesis", 0, step, row)) for row in range(count)]


class TestStepsByHand:
    """In float64, since Adam's first steps divide gradients by themselves."""

    @pytest.mark.parametrize("kind", ["dsgan", "dasr"])
    def test_of_the_split_losses(self, kind):
        module = {"dsgan": dsgan_gan, "dasr": dasr_gan}[kind](perceptual=Edges(), decay_from=1)
        net, judge = copy.deepcopy(module.net).double(), copy.deepcopy(module.discriminator).double()
        fitted(module, 3, precision="64-true", limit_val_batches=0)
        one, other = adams(net, judge, lr=2e-4, betas=(0.5, 0.999))
        bce = F.binary_cross_entropy_with_logits

        def low(images):
            if kind == "dsgan":
                return F.avg_pool2d(images, 5, 1, 2, count_include_pad=False)
            return F.avg_pool2d(images, 2)

        for step, share in enumerate([1.0, 1.0, 0.5]):
            for group in (*one.param_groups, *other.param_groups):
                group["lr"] = 2e-4 * share
            batch = batch_of(step, 2, **DATA)
            hq, real = batch["hq"].double(), batch["lq"].double()
            start = reduced(hq, 4)
            made = net.body(start if kind == "dsgan" else hq)
            logits = judge(made)
            loss = F.l1_loss(low(made), low(start)) + 0.01 * Edges()(made, start)
            one.zero_grad()
            (loss + 0.005 * bce(logits, torch.ones_like(logits))).backward()
            one.step()
            other.zero_grad()
            of_real, of_made = judge(real), judge(made.detach())
            (bce(of_real, torch.ones_like(of_real)) + bce(of_made, torch.zeros_like(of_made))).backward()
            other.step()
        assert_same(module.net, net)
        assert_same(module.discriminator, judge)

    def test_of_pdm(self):
        module = pdm_gan(gradient_clip=0.5, halve_at=(2,))
        net, judge = copy.deepcopy(module.net).double(), copy.deepcopy(module.discriminator).double()
        fitted(module, 3, precision="64-true", limit_val_batches=0)
        one, other = adams(net, judge, lr=2e-4, betas=(0.5, 0.999))
        for step, share in enumerate([1.0, 1.0, 0.5]):
            for group in (*one.param_groups, *other.param_groups):
                group["lr"] = 2e-4 * share
            batch = batch_of(step, 2, **DATA)
            hq, real = batch["hq"].double(), batch["lq"].double()
            random = rows(step)
            numbers, fields = (
                torch.stack([torch.randn(shape, generator=row, dtype=torch.float64) for row in random])
                for shape in ((3, 1, 1), (3, 16, 16))
            )
            blurred = net.blur(hq, net.kernels_of(numbers))
            noise = net.noise(torch.cat([fields, blurred.detach()], 1))
            made = blurred + noise
            loss = (judge(made) - 1).square().mean() + 10 * noise.mean((2, 3)).square().mean()
            one.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            one.step()
            other.zero_grad()
            ((judge(real) - 1).square().mean() + judge(made.detach()).square().mean()).backward()
            nn.utils.clip_grad_norm_(judge.parameters(), 0.5)
            other.step()
        assert_same(module.net, net)
        assert_same(module.discriminator, judge)

    def test_of_wasserstein(self):
        module = wasserstein_gan()
        net, judge = copy.deepcopy(module.net).double(), copy.deepcopy(module.discriminator).double()
        fitted(module, 2, precision="64-true", limit_val_batches=0)
        one, other = adams(net, judge, lr=2e-4, betas=(0.5, 0.999))
        for step in range(2):
            batch = batch_of(step, 2, **DATA)
            start, real = reduced(batch["hq"].double(), 4), batch["lq"].double()
            made = net.body(start)
            content = F.l1_loss(*(F.avg_pool2d(one, 5, 1, 2, count_include_pad=False) for one in (made, start)))
            one.zero_grad()
            (content - 0.005 * judge(made).mean()).backward()
            one.step()
            seeds = [seed_of("gradient penalty", 0, step, row) for row in range(2)]
            random = [torch.Generator().manual_seed(seed) for seed in seeds]
            share = torch.stack([torch.rand((1, 1, 1), generator=row, dtype=torch.float64) for row in random])
            between = (made.detach() + share * (real - made.detach())).requires_grad_()
            (gradient,) = torch.autograd.grad(judge(between).mean((1, 2, 3)).sum(), between, create_graph=True)
            penalty = (gradient.square().sum((1, 2, 3)).sqrt() - 1).square().mean()
            other.zero_grad()
            (judge(made.detach()).mean() - judge(real).mean() + 10 * penalty).backward()
            other.step()
        assert_same(module.net, net)
        assert_same(module.discriminator, judge)


class TestCheckpoints:
    @pytest.mark.parametrize("make", [dsgan_gan, pdm_gan])
    def test_is_a_degradation_with_the_averaged_weights(self, make, tmp_path):
        module = make()
        fitted(module, 3, [EMA(decay=0.5, every_n_steps=1), LastCheckpoint(str(tmp_path))])
        saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
        degradation = by_name(str(tmp_path / "last.ckpt"))
        assert (degradation.name, degradation.scale) == (module.net.name, 4)
        assert degradation.training["steps"] == 3
        for name, value in degradation.net.state_dict().items():
            assert torch.equal(value, saved["state_dict"][f"net.{name}"]), name
            if not name.endswith("num_batches_tracked"):
                assert not torch.equal(value, saved["current_model_state"][f"net.{name}"]), name
        lq = degradation(torch.rand(2, 3, 64, 64))
        assert lq.shape == (2, 3, 16, 16)

    @pytest.mark.parametrize(
        "make",
        [dsgan_gan, pdm_gan, *(pytest.param(one, marks=pytest.mark.slow) for one in (dasr_gan, wasserstein_gan))],
    )
    def test_resumes_bit_exactly(self, make, tmp_path):
        def run(folder, steps, resume=None):
            callbacks = [EMA(decay=0.9, every_n_steps=1), LastCheckpoint(str(tmp_path / folder))]
            fit = trainer(steps, callbacks=callbacks)
            fit.fit(make(halve_at=(2, 4)), TinyPairs(**DATA), ckpt_path=resume, weights_only=True)
            return torch.load(tmp_path / folder / "last.ckpt", weights_only=True)

        whole = run("whole", 5)
        run("parts", 3)
        parts = run("parts", 5, tmp_path / "parts" / "last.ckpt")
        assert whole["lr_schedulers"] == parts["lr_schedulers"]
        rates = [state["param_groups"][0]["lr"] for state in parts["optimizer_states"]]
        assert rates == [2e-4 / 4] * 2
        for part in ("state_dict", "current_model_state"):
            for name, value in whole[part].items():
                assert torch.equal(value, parts[part][name]), name
        for one, other in zip(whole["optimizer_states"], parts["optimizer_states"], strict=True):
            for number, state in one["state"].items():
                assert all(torch.equal(value, other["state"][number][name]) for name, value in state.items())


class TestFit:
    @pytest.mark.parametrize("make", ALL)
    def test_bfloat16(self, make):
        fit = fitted(make(), 2, precision="bf16-mixed")
        assert all(torch.isfinite(value) for value in fit.callback_metrics.values())

    def test_logs_what_happens(self):
        fit = fitted(dsgan_gan(perceptual=Edges(), r1_weight=1.0), 2, [TrainingMonitor()])
        train = ["adversarial", "content", "perceptual", "discriminator", "logit_real", "logit_made", "r1"]
        names = {f"train/{name}" for name in train} | {"val/power_gap", "val/power_gap_1", "val/power_gap_2"}
        assert names <= set(fit.callback_metrics)

    def test_the_power_gap_of_real_images_is_zero(self):
        module = dsgan_gan()
        batch = batch_of(0, 2, **DATA)
        module.samples = lambda hq: batch["lq"] * 0.5
        module._trainer = SimpleNamespace(strategy=SimpleNamespace(reduce=lambda value, reduce_op: value))
        logged = {}
        module.log_dict = logged.update
        module.validation_step(batch, 0)
        module.validation_step(batch, 1)
        module.on_validation_epoch_end()
        torch.testing.assert_close(logged["val/power_gap_1"], torch.tensor(-6.0206), atol=1e-3, rtol=0)

    def test_no_step_leaves_a_network_frozen(self):
        module = pdm_gan()
        fitted(module, 1)
        assert all(parameter.requires_grad for parameter in module.parameters())


def test_sample_grids(tmp_path):
    module, data = pdm_gan(), TinyPairs(**DATA)
    logger = CSVLogger(tmp_path, name="logs")
    fitted(module, 4, [LearnedSamples(pictures=4, every_n_steps=2)], data, logger=logger, log_every_n_steps=1)
    files = sorted(path.name for path in (tmp_path / "logs/version_0/samples").iterdir())
    assert files == ["step_0000002.png", "step_0000004.png"]
    batch = batch_of(1, 2, **DATA)
    module.eval()
    grid = LearnedSamples(pictures=2).grid(module, batch)
    assert grid.shape == (3, 4 + 2 * (48 + 4), 4 + 3 * (48 + 4))
    left, middle, right = (grid[:, 4:52, 4 + 52 * n : 52 * (n + 1)][:, ::3, ::3] for n in range(3))
    assert torch.equal(left, reduced(batch["hq"], 4)[0]) and torch.equal(right, batch["lq"][0])
    assert torch.equal(middle, module.samples(batch["hq"])[0])


class TestIdentityWatch:
    def images(self, n, gain):
        noise = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(n)) - 0.5
        return 0.5 + gain * noise

    def test_warns_if_only_reduced(self, recwarn):
        watch = IdentityWatch(window=5)
        start, real = self.images(0, 0.1), self.images(1, 0.3)
        said = [watch.update(start + 0.002, start, real) for _ in range(5)]
        assert said[:4] == [None] * 4
        assert re.search(r"\+9\.\d dB more power.*--model.adversarial_weight", said[4])
        assert len(recwarn) == 1

    @pytest.mark.parametrize("gain", [0.1, 0.3])
    def test_is_silent_where_nothing_is_missing_or_something_is_learned(self, gain, recwarn):
        watch = IdentityWatch(window=2)
        start, real = self.images(0, 0.1), self.images(1, gain)
        made = start if gain == 0.1 else self.images(0, 0.2)
        assert [watch.update(made, start, real) for _ in range(4)] == [None] * 4
        assert len(recwarn) == 0


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"adversarial_loss": "hinge"}, "adversarial_loss: got 'hinge'; expected logistic, least_squares,"),
            ({"adversarial_loss": "wasserstein"}, "gradient_penalty: got 0; expected more"),
            ({"content": "edges"}, "content: got 'edges'; expected box, haar"),
            ({"content_weight": -1.0}, "content_weight: got -1.0; expected 0 or more"),
            ({"noise_mean_weight": 1.0}, "noise_mean_weight: got 1.0; expected 0 for dsgan, which adds no noise"),
            ({"learning_rate": 0.0}, "--model.learning_rate: got 0.0"),
            ({"discriminator_learning_rate": -1.0}, "discriminator_learning_rate: got -1.0"),
            ({"gradient_penalty": -1.0}, "gradient_penalty: got -1.0; expected 0 or more"),
            ({"gradient_clip": 0.0}, "--model.gradient_clip: got 0.0"),
        ],
    )
    def test_wrong(self, options, said):
        with pytest.raises(UserError, match=said) as caught:
            DegradationGAN(DSGAN(4, 4, 1), PatchDiscriminator("box", (4,)), **options)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("make", "data", "said"),
        [
            (dsgan_gan, (2, 128, 8), "--data.scale: got 2; expected 4, the scale of --model.net"),
            (dasr_gan, (4, 68, 8), "--data.crop_size: got 68; expected a multiple of 8, 32 or more"),
            (dsgan_gan, (4, 28, 8), "--data.crop_size: got 28; expected a multiple of 4, 32 or more"),
            (lambda: dsgan_gan(perceptual=Edges()), (4, 64, 8), "crop_size: got 64; expected a multiple of 4, 128 or"),
            (pdm_gan, (4, 64, 1), "--data.batch_size: got 1 over all ranks; expected 2 or more for pdm"),
        ],
    )
    def test_data_that_does_not_fit(self, make, data, said):
        with pytest.raises(UserError, match=said):
            make().check(*data)

    def test_a_run(self):
        data = SimpleNamespace(scale=4, crop_size=64, batch_size=2)
        fit = SimpleNamespace(precision="32-true", max_steps=100, world_size=1)
        run = SimpleNamespace(verb="fit", trainer=fit, data=data)
        dsgan_gan(decay_from=50).check_run(run)
        with pytest.raises(
            UserError, match="decay_from: got 100; expected less than --trainer.max_steps, which is 100"
        ):
            dsgan_gan(decay_from=100).check_run(run)
        data.scale = 2
        with pytest.raises(UserError, match="--data.scale: got 2"):
            dsgan_gan().check_run(run)


SCRIPT = """
import sys
import torch
import tiny_gan
import tiny_learned
ranks, kind, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.set_num_threads(1)
module = getattr(tiny_learned, kind)(gradient_clip=0.5)
data = tiny_gan.TinyPairs(4 // ranks, **tiny_learned.DATA)
options = {"devices": ranks, "strategy": "ddp"} if ranks > 1 else {}
fit = tiny_gan.trainer(4, precision="64-true", limit_val_batches=0, **options)
fit.fit(module, data)
torch.save(module.state_dict(), f"{out}.{fit.global_rank}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dsgan_gan", "pdm_gan", "relativistic_gan", "wasserstein_gan"])
def test_two_ranks_step_like_one_with_the_doubled_batch(kind, tmp_path):
    """Also those with batch normalization, whose statistics are those of both ranks."""
    script = tmp_path / "fit.py"
    script.write_text(SCRIPT)
    tests = str(Path(__file__).parents[2])
    path = os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])
    for ranks in (1, 2):
        command = [sys.executable, str(script), str(ranks), kind, str(tmp_path / f"of{ranks}")]
        environment = os.environ | {"PYTHONPATH": path}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
    whole, first, second = (torch.load(tmp_path / name) for name in ("of1.0", "of2.0", "of2.1"))
    for name, value in whole.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=0, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
