"""Training against a discriminator: its steps by hand, its counting, its checkpoints, and two ranks."""

import copy
import math
import os
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from tiny_gan import RRDB_PAIRS, SIZE, TinyPairs, batch_of, dasr_rrdb, dsgan_rrdb, gpen_gan, prior, rrdb_gan, trainer
from torch import nn

from ddpm_pairs.callbacks import EMA, LastCheckpoint
from ddpm_pairs.degradations.ops.sharpen import unsharp_mask
from ddpm_pairs.errors import UserError
from ddpm_pairs.restoration.adversarial import parameter_groups
from ddpm_pairs.tensors import seed_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


class Edges(nn.Module):
    """A perceptual distance of horizontal differences."""

    def forward(self, restored, hq):
        return F.l1_loss(restored.diff(dim=3), hq.diff(dim=3))

    def with_style(self, restored, hq):
        """The style distance is one of vertical differences."""
        return self(restored, hq), F.l1_loss(restored.diff(dim=2), hq.diff(dim=2))


def fitted(module, steps, data=None, callbacks=(), **options):
    fit = trainer(steps, callbacks=list(callbacks), **options)
    fit.fit(module, data or TinyPairs())
    return fit


def assert_same(found, expected, **tolerance):
    expected = dict(expected.named_parameters())
    for name, parameter in found.named_parameters():
        torch.testing.assert_close(
            parameter, expected[name], msg=lambda text, name=name: f"{name}: {text}", **tolerance
        )


def clip(parameters, limit):
    """Scale gradients down to a common norm."""
    norm = math.sqrt(sum(one.grad.square().sum().item() for one in parameters))
    for one in parameters:
        one.grad.mul_(min(1, limit / norm))


class TestStepsByHand:
    """In float64, since Adam's first steps divide gradients by themselves."""

    @pytest.mark.parametrize(("limit", "style"), [(None, 0.0), (0.05, 0.1)])
    def test_of_rrdb(self, limit, style):
        module = rrdb_gan(perceptual=Edges(), style_weight=style, sharpen_hq=True, gradient_clip=limit)
        net, judge = copy.deepcopy(module.net).double(), copy.deepcopy(module.discriminator).double()
        fitted(module, 3, TinyPairs(**RRDB_PAIRS), precision="64-true", limit_val_batches=0)
        adam = {"lr": 1e-4, "betas": (0.9, 0.99)}
        one, other = torch.optim.Adam(net.parameters(), **adam), torch.optim.Adam(judge.parameters(), **adam)
        bce = F.binary_cross_entropy_with_logits
        for step in range(3):
            batch = batch_of(step, 2, **RRDB_PAIRS)
            hq, lq = batch["hq"].double(), batch["lq"].double()
            sharp = unsharp_mask(hq)
            restored = net(lq)
            logits = judge(restored)
            loss = F.l1_loss(restored, sharp) + Edges()(restored, sharp) + 0.1 * bce(logits, torch.ones_like(logits))
            loss = loss + style * Edges().with_style(restored, sharp)[1]
            one.zero_grad()
            loss.backward()
            if limit is not None:
                clip(list(net.parameters()), limit)
            one.step()
            other.zero_grad()  # what the generator's loss left in the discriminator
            real, made = judge(hq), judge(restored.detach())
            (bce(real, torch.ones_like(real)) + bce(made, torch.zeros_like(made))).backward()
            if limit is not None:
                clip(list(judge.parameters()), limit)
            other.step()
        assert_same(module.net, net, rtol=0, atol=1e-7)
        assert_same(module.discriminator, judge, rtol=0, atol=1e-7)

    def test_of_gpen(self):
        """R1 at iterations 0 and 2, path lengths at 0, each a step of its own."""
        module = gpen_gan(seed=4)
        net, judge = copy.deepcopy(module.net).double(), copy.deepcopy(module.discriminator).double()
        fitted(module, 3, precision="64-true", limit_val_batches=0)
        share, critic_share = 3 / 4, 2 / 3
        decoder = list(net.generator.parameters())
        encoder = [one for name, one in net.named_parameters() if not name.startswith("generator.")]
        groups = [{"params": encoder, "lr": 2e-3 * share}, {"params": decoder, "lr": 2e-4 * share}]
        one = torch.optim.Adam(groups, betas=(0.0, 0.99**share))
        other = torch.optim.Adam(judge.parameters(), lr=2e-5 * critic_share, betas=(0.0, 0.99**critic_share))
        mean = 0.0
        for step in range(3):
            hq = batch_of(step, 2, SIZE, 1)["hq"].double()
            restored = net(hq)
            loss = F.smooth_l1_loss(2 * restored - 1, 2 * hq - 1) - F.logsigmoid(judge(restored)).mean()
            one.zero_grad()
            loss.backward()
            one.step()
            if step == 0:
                pictures, latents = net.restore_with_latents(hq)
                rows = [torch.Generator().manual_seed(seed_of("path", 0, 0, row)) for row in range(2)]
                noise = torch.stack([torch.randn(3, SIZE, SIZE, generator=row, dtype=torch.float64) for row in rows])
                moved = ((2 * pictures - 1) * noise / SIZE).sum()
                (gradient,) = torch.autograd.grad(moved, latents, create_graph=True)
                lengths = gradient.square().sum(2).mean(1).sqrt()
                mean = 0.01 * lengths.mean().item()
                one.zero_grad()
                (2 * 3 * (lengths - mean).square().mean()).backward()
                one.step()
            other.zero_grad()
            loss = -F.logsigmoid(judge(hq)).mean() - F.logsigmoid(-judge(restored.detach())).mean()
            loss.backward()
            other.step()
            if step in (0, 2):
                real = hq.clone().requires_grad_()
                (gradient,) = torch.autograd.grad(judge(real).sum(), real, create_graph=True)
                other.zero_grad()
                (10 / 2 * 2 * (gradient / 2).square().sum((1, 2, 3)).mean()).backward()
                other.step()
        assert mean > 0
        assert module.mean_path_length.item() == pytest.approx(mean, rel=1e-6)
        assert_same(module.net, net, rtol=0, atol=1e-6)
        assert_same(module.discriminator, judge, rtol=0, atol=1e-7)


class Steps(L.Callback):
    """What the Trainer counts, at each training batch and each validation."""

    def __init__(self):
        self.batches, self.validations = [], []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.batches.append(trainer.global_step)

    def on_validation_start(self, trainer, module):
        self.validations.append(trainer.global_step)


class TestCounting:
    @pytest.mark.parametrize("module", [gpen_gan, prior])
    def test_an_iteration_is_a_step(self, module, tmp_path):
        steps = Steps()
        ema = EMA(decay=0.5, every_n_steps=2)
        last = LastCheckpoint(str(tmp_path), every_n_steps=2, keep_every_n_steps=3)
        fit = fitted(module(), 5, callbacks=[ema, steps, last])
        assert steps.batches == [1, 2, 3, 4, 5]
        assert steps.validations == [2, 4]
        assert fit.global_step == 5
        assert ema._average_model.n_averaged.item() == 2
        assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "step_0000003.ckpt"]
        assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 5

    def test_the_average_follows_the_network(self, tmp_path):
        class Weights(L.Callback):
            seen = []

            def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
                self.seen.append(module.net.generator.conv1.conv.weight.detach().clone())

        decays, weights = [], Weights()
        ema = EMA(decay=0.5, every_n_steps=1)
        fitted(gpen_gan(), 4, callbacks=[weights, ema, LastCheckpoint(str(tmp_path))])
        average = weights.seen[0]
        for update, raw in enumerate(weights.seen[1:], start=1):
            decays.append(min(0.5, 1 - (1 + update) ** (-2 / 3)))
            average = decays[-1] * average + (1 - decays[-1]) * raw
        saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
        name = "net.generator.conv1.conv.weight"
        torch.testing.assert_close(saved["state_dict"][name], average)
        torch.testing.assert_close(saved["current_model_state"][name], weights.seen[-1])
        assert not torch.equal(average, weights.seen[-1])


def flat(state):
    """Tensors of nested dicts and lists by their path."""
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list | tuple) else ()
    found = {}
    for key, value in items:
        if isinstance(value, torch.Tensor):
            found[str(key)] = value
        else:
            found |= {f"{key}/{name}": tensor for name, tensor in flat(value).items()}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("make", [rrdb_gan, dsgan_rrdb, dasr_rrdb, gpen_gan, prior])
def test_a_checkpoint_resumes_bit_exactly(make, tmp_path):
    data = {} if make in (gpen_gan, prior) else RRDB_PAIRS

    def run(folder, steps, resume=None):
        callbacks = [EMA(decay=0.9, every_n_steps=1), LastCheckpoint(str(tmp_path / folder))]
        fit = trainer(steps, callbacks=callbacks)
        fit.fit(make(), TinyPairs(**data), ckpt_path=resume, weights_only=True)
        return tmp_path / folder / "last.ckpt"

    whole = flat(torch.load(run("whole", 5), weights_only=True))
    parts = flat(torch.load(run("parts", 5, run("parts", 3)), weights_only=True))
    assert whole.keys() == parts.keys()
    different = [name for name in whole if not torch.equal(whole[name], parts[name])]
    assert different == []
    assert any(name.startswith("optimizer_states/1") for name in whole)
    assert any(name.startswith("current_model_state") for name in whole)


def test_a_checkpoint_from_before_schedules_halves_the_learning_rates_at_its_step(tmp_path):
    def run(folder, steps, resume=None):
        fit = trainer(steps, callbacks=[LastCheckpoint(str(tmp_path / folder))], limit_val_batches=0)
        fit.fit(rrdb_gan(halve_at=(1, 3)), TinyPairs(**RRDB_PAIRS), ckpt_path=resume, weights_only=True)
        return tmp_path / folder / "last.ckpt"

    part = run("parts", 2)
    saved = torch.load(part, weights_only=True)
    torch.save(saved | {"lr_schedulers": []}, part)
    whole, resumed = (torch.load(path, weights_only=True) for path in (run("whole", 5), run("parts", 5, part)))
    assert resumed["lr_schedulers"] == whole["lr_schedulers"] == [{"last_epoch": 5}] * 2
    assert all(torch.equal(resumed["state_dict"][name], value) for name, value in whole["state_dict"].items())


class TestFit:
    @pytest.mark.parametrize("make", [rrdb_gan, gpen_gan])
    def test_bfloat16(self, make):
        data = TinyPairs(**(RRDB_PAIRS if make is rrdb_gan else {}))
        module, before = make(), make()
        fit = fitted(module, 2, data, precision="bf16-mixed")
        assert all(torch.isfinite(value) for value in fit.callback_metrics.values())
        for part in ("net", "discriminator"):
            pairs = zip(getattr(module, part).parameters(), getattr(before, part).parameters(), strict=True)
            assert any(not torch.equal(now, then) for now, then in pairs)

    def test_half_precision(self):
        with pytest.raises(ValueError, match="precision: got 16-true, .* expected bf16-mixed or 32-true"):
            fitted(rrdb_gan(), 1, TinyPairs(**RRDB_PAIRS), precision="16-true")

    def test_logs_what_happens(self):
        fit = fitted(gpen_gan(path_every=1), 1)
        names = ["pixel", "adversarial", "discriminator", "logit_real", "logit_made", "r1", "path_length"]
        assert {f"train/{name}" for name in names} <= set(fit.callback_metrics)

    def test_no_step_leaves_a_network_frozen(self):
        module = gpen_gan()
        fitted(module, 1)
        assert all(parameter.requires_grad for parameter in module.parameters())

    def test_a_loss_that_is_no_number_stops_the_fit(self):
        module = rrdb_gan(pixel_weight=math.inf)
        with pytest.raises(UserError, match=r"became inf at step 0.*--model.gradient_clip"):
            fitted(module, 1, TinyPairs(**RRDB_PAIRS))


class TestOptions:
    def test_learning_rates_of_parts(self):
        net = gpen_gan().net
        groups = parameter_groups(net, 1e-3, {"generator.style": 1e-4, "generator.": 1e-5})
        assert [group["lr"] for group in groups] == [1e-3, 1e-4, 1e-5]
        assert sum(len(group["params"]) for group in groups) == len(list(net.parameters()))
        assert {id(one) for one in groups[1]["params"]} == {id(one) for one in net.generator.style.parameters()}

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"pixel_loss": "l2"}, "--model.pixel_loss: got 'l2'; expected l1, smooth_l1, low_l1"),
            ({"adversarial_loss": "hinge"}, "--model.adversarial_loss: got 'hinge'; expected logistic, least_squares"),
            ({"adversarial_loss": "wasserstein"}, "--model.gradient_penalty: got 0; expected more"),
            ({"learning_rate": 0.0}, "--model.learning_rate: got 0.0; expected a positive number"),
            ({"discriminator_learning_rate": -1.0}, "discriminator_learning_rate: got -1.0"),
            (
                {"part_learning_rates": {"decoder": 1e-4}},
                "got 'decoder'; expected a prefix of a weight's name in RRDBNet",
            ),
            ({"r1_every": 0}, "--model.r1_every: got 0; expected 1 or more"),
            ({"r1_weight": -1.0}, "--model.r1_weight: got -1.0"),
            ({"path_weight": 2.0}, "path_weight: got 2.0; expected 0 for RRDBNet, which has no latents"),
            ({"gradient_clip": 0.0}, "--model.gradient_clip: got 0.0"),
        ],
    )
    def test_wrong(self, options, said):
        with pytest.raises(ValueError, match=said) as caught:
            rrdb_gan(**options)
        assert "\n" not in str(caught.value)


SCRIPT = """
import sys
import torch
import tiny_gan
ranks, kind, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.set_num_threads(1)
rrdb = "rrdb" in kind
options = {} if rrdb else {"compare_batch": False}
module = getattr(tiny_gan, kind)(gradient_clip=0.5, **options)
data = tiny_gan.TinyPairs(4 // ranks, **(tiny_gan.RRDB_PAIRS if rrdb else {}))
options = {"devices": ranks, "strategy": "ddp"} if ranks > 1 else {}
fit = tiny_gan.trainer(4, precision="64-true", limit_val_batches=0, **options)
fit.fit(module, data)
torch.save(module.state_dict(), f"{out}.{fit.global_rank}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rrdb_gan", "dsgan_rrdb", "dasr_rrdb", "gpen_gan", "prior"])
def test_two_ranks_step_like_one_with_the_doubled_batch(kind, tmp_path):
    script = tmp_path / "fit.py"
    script.write_text(SCRIPT)
    tests = str(Path(__file__).parents[1])
    for ranks in (1, 2):
        command = [sys.executable, str(script), str(ranks), kind, str(tmp_path / f"of{ranks}")]
        done = subprocess.run(command, env=_environment(tests), capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
    whole, first, second = (torch.load(tmp_path / name) for name in ("of1.0", "of2.0", "of2.1"))
    for name, value in whole.items():
        if name.endswith(("weight_u", "weight_v")):
            continue
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=0, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def _environment(tests):
    return os.environ | {"PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])}
