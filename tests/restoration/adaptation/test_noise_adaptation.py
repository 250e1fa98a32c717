"""The module of noise-space adaptation: a step by hand, the equality with Regression, fits, ranks, and messages."""

import copy
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from tiny_adaptation import DENOISER, SCALE, TinyReal, adaptation, network, real_batch
from tiny_gan import trainer

from ddpm_pairs.callbacks import EMA, LastCheckpoint, RealSamples
from ddpm_pairs.errors import UserError
from ddpm_pairs.export import export_restorer
from ddpm_pairs.restoration import NoiseAdaptation, Regression, RestorationUNet, load_restorer
from ddpm_pairs.restoration.adaptation.noise_space import LEVELS, Conditions, residuals_swapped
from ddpm_pairs.tensors import seed_of
from ddpm_pairs.training.watch import ShortcutWatch

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


def fitted(module, steps, **options):
    fit = trainer(steps, **options)
    fit.fit(module, TinyReal(options.pop("n", 2)))
    return fit


def assert_equal(one, other):
    weights = dict(other.named_parameters())
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, weights[name]), name


@pytest.fixture(autouse=True)
def own_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def enlarged(lq):
    return F.interpolate(lq, scale_factor=SCALE, mode="bicubic", antialias=True)


def test_steps_by_hand():
    module = adaptation(learning_rate=1e-3)
    net, denoiser = copy.deepcopy(module.net).double(), copy.deepcopy(module.denoiser).double()
    fitted(module, 3, precision="64-true", limit_val_batches=0)
    optimizer = torch.optim.Adam([*net.parameters(), *denoiser.parameters()], 1e-3, (0.9, 0.99))
    for step, share in enumerate([0.848283640, 0.986614298, 0.986614298]):  # 2 / (1 + exp(-5 p)) - 1, p 1/2 and 1
        batch = {name: one.double() for name, one in real_batch(step).items() if name != "key"}
        synthetic, real = net(batch["lq"]), net(batch["real"])
        base, base_real = enlarged(batch["lq"]), enlarged(batch["real"])
        total = torch.sqrt((synthetic - batch["hq"]) ** 2 + 1e-6).mean()
        errors = []
        for row in range(2):
            generator = torch.Generator().manual_seed(seed_of("noise adaptation", 0, step, row))
            numbers = torch.rand(4, generator=generator, dtype=torch.float64)
            noise = torch.randn(batch["hq"].shape[1:], generator=generator, dtype=torch.float64)
            index = 1 + int(numbers[0] * 999)
            gamma = torch.lerp(LEVELS.alpha_bars[index - 1], LEVELS.alpha_bars[index], numbers[1]).float().double()
            clean = gamma.sqrt() * batch["hq"][row] + (1 - gamma).sqrt() * noise
            good = [synthetic[row], real[row]]
            bad = [base[row] + real[row] - base_real[row], base_real[row] + synthetic[row] - base[row]]
            for pair, number in ((good, numbers[2]), (bad, numbers[3])):
                images = torch.cat([clean, *(pair[::-1] if number < 0.5 else pair)])[None]
                errors.append((noise - denoiser(images, gamma[None])[0]).square().mean())
        plus, minus = (errors[0] + errors[2]) / 2, (errors[1] + errors[3]) / 2
        total = total + share * (plus + (plus - minus + 0.1).clamp(min=0)) / 2
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    for found, expected in ((module.net, net), (module.denoiser, denoiser)):
        torch.testing.assert_close(list(found.parameters()), list(expected.parameters()), rtol=0, atol=2e-6)


def test_vanilla_is_regression_bit_for_bit():
    options = {"loss": "l1", "learning_rate": 1e-3, "warmup_steps": 2}
    module, plain = adaptation(mode="vanilla", **options), Regression(network(), **options)
    fitted(module, 4)
    fitted(plain, 4)
    assert module.denoiser is None and module.state_dict().keys() == plain.state_dict().keys()
    assert_equal(module, plain)


def step_gradients(module, batch):
    """Gradients of the adaptation loss alone with respect to the restored synthetic and real images."""
    module.log = module.log_dict = lambda *args, **kwargs: None
    module.trainer = SimpleNamespace(accumulate_grad_batches=1, world_size=1, strategy=None, global_rank=0)
    restored = module.net(batch["lq"]).detach().requires_grad_()
    seen = []
    module.net.register_forward_hook(lambda net, inputs, output: seen.append(output) or output.retain_grad())
    module.adaptation_loss(batch, restored, 0).backward()
    return [0.0 if one.grad is None else one.grad.abs().sum().item() for one in (restored, seen[0])]


@pytest.mark.parametrize(
    ("options", "reached"),
    [
        ({}, (True, True)),
        ({"contrast": "sample"}, (True, True)),
        ({"contrast": "none", "shuffle": False, "condition": "synthetic"}, (True, False)),
        ({"contrast": "none", "shuffle": False, "condition": "real"}, (False, True)),
        ({"mode": "clean"}, (True, True)),
    ],
)
def test_gradients_reach_the_restorer_through_the_conditions(options, reached):
    assert tuple(one > 0 for one in step_gradients(adaptation(**options), real_batch(0))) == reached


def test_detached_conditions_pass_no_gradient():
    images = Conditions(*(torch.rand(2, 3, 4, 4, requires_grad=True) for _ in range(2)))
    detached = Conditions(*(one.detach() for one in images))
    assert all(one.requires_grad for one in residuals_swapped(images, detached))
    assert not any(one.requires_grad for one in residuals_swapped(detached, detached))


def test_only_some_images_are_adapted():
    synthetic, real = [], []
    module = adaptation(adapted=1)
    module.denoiser.register_forward_hook(lambda net, inputs, output: synthetic.append(len(inputs[0])))
    module.net.register_forward_hook(lambda net, inputs, output: real.append(len(inputs[0])))
    step_gradients(module, real_batch(0))
    assert synthetic == [2] and real[-1] == 1


def test_losses_on_the_signed_range():
    module = adaptation(signed=True, mode="vanilla", loss="l1")
    module.log_dict = lambda *args, **kwargs: None
    module.trainer = SimpleNamespace(accumulate_grad_batches=1, global_step=0)
    batch = real_batch(0)
    loss = module.training_step(batch, 0)
    torch.testing.assert_close(loss, 2 * F.l1_loss(module.net(batch["lq"]), batch["hq"]))


def fit_to(folder, steps, ckpt_path=None, **options):
    module = adaptation(denoiser=DENOISER | {"dropout": 0.2}, **options)
    runner = trainer(steps, callbacks=[EMA(0.9, 1), LastCheckpoint(str(folder), 1000)])
    runner.fit(module, TinyReal(), ckpt_path=ckpt_path, weights_only=True)
    return torch.load(folder / "last.ckpt", weights_only=True)


def test_resumed_fit_is_the_unbroken_one_bit_for_bit(tmp_path):
    whole = fit_to(tmp_path / "whole", 4)
    fit_to(tmp_path / "broken", 2)
    again = fit_to(tmp_path / "broken", 4, str(tmp_path / "broken" / "last.ckpt"))
    for part in ("state_dict", "current_model_state"):
        assert whole[part].keys() == again[part].keys()
        assert all(torch.equal(again[part][name], value) for name, value in whole[part].items())


@pytest.mark.parametrize("net", [network, lambda: RestorationUNet([8, 8])], ids=["rrdb", "unet"])
def test_checkpoint_and_export_are_a_restorer(net, tmp_path):
    module = NoiseAdaptation(net(), adaptation().denoiser)
    state = {"state_dict": module.state_dict(), "ddpm_pairs": {"kind": "restorer"}}
    torch.save(state, tmp_path / "last.ckpt")
    assert any(name.startswith("denoiser.") for name in module.state_dict())
    loaded = load_restorer(tmp_path / "last.ckpt")
    assert_equal(loaded, module.net)
    for name in ("out.pth", "out.safetensors"):
        export_restorer(loaded, tmp_path / name)
        exported = load_restorer(tmp_path / name)
        assert exported.state_dict().keys() == module.net.state_dict().keys()
        assert_equal(exported, module.net)
    start = NoiseAdaptation(net(), adaptation().denoiser, init_from=str(tmp_path / "last.ckpt"))
    assert_equal(start.net, module.net)


RANKS = """
import sys, torch
sys.path.insert(0, {tests!r})
from tiny_adaptation import TinyReal, adaptation
from tiny_gan import trainer
module = adaptation(learning_rate=1e-3)
options = dict(devices={ranks}, strategy="ddp") if {ranks} > 1 else {{}}
fit = trainer(3, limit_val_batches=0, enable_checkpointing=False, **options)
fit.fit(module, TinyReal(4 // {ranks}))
if fit.is_global_zero:
    torch.save(module.state_dict(), {out!r})
"""


def start(folder, ranks):
    out = str(folder / f"{ranks}.pt")
    script = folder / f"{ranks}.py"
    script.write_text(RANKS.format(tests=str(Path(__file__).parents[2]), ranks=ranks, out=out))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    run = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, cwd=folder)
    assert run.returncode == 0, run.stderr
    return torch.load(out, weights_only=True)


@pytest.mark.slow
def test_two_ranks_train_as_one(tmp_path):
    one, two = start(tmp_path, 1), start(tmp_path, 2)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_the_warning_of_a_shortcut(recwarn):
    watch = ShortcutWatch(window=3)
    said = [watch.update(torch.tensor(0.5), torch.tensor(0.6)) for _ in range(3)]
    assert said == [None] * 3 and not recwarn
    with pytest.warns(UserWarning, match=r"e_minus 0.4000\) was no larger than without \(e_plus 0.5000\)"):
        said = [watch.update(torch.tensor(0.5), torch.tensor(0.4)) for _ in range(3)]
    assert said[:2] == [None, None] and "shortcut" in said[2]


def test_what_is_logged_and_shown():
    module = adaptation()
    fit = fitted(module, 2)
    names = {"pixel", "loss", "e_plus", "e_minus", "contrast", "alpha"}
    assert {f"train/{name}" for name in names} <= fit.logged_metrics.keys()
    alpha = fit.logged_metrics["train/alpha"].item()
    assert alpha == pytest.approx(0.986614298)
    samples = RealSamples(pictures=2)
    grid = samples.grid(module, real_batch(0))
    assert grid.shape == (3, 2 * 20 + 4, 3 * 20 + 4) and grid.min() >= 0 and grid.max() <= 1
    with torch.no_grad():
        module.net.conv_last.bias += 0.2
    later = samples.grid(module, real_batch(0))
    assert torch.equal(later[:, :, :44], grid[:, :, :44]) and not torch.equal(later[:, :, 44:], grid[:, :, 44:])


def test_alpha_in_epochs_counts_passes_over_the_pairs():
    module = adaptation(ramp=300, ramp_unit="epochs", weight=0.2)
    data = SimpleNamespace(epoch_samples=50, batch_size=5)
    module.trainer = SimpleNamespace(accumulate_grad_batches=2, world_size=2, datamodule=data)
    found = [round(module.alpha(draw), 4) for draw in (0, 4, 49 * 5, 300 * 5)]
    assert found == [0.0017, 0.0017, 0.0788, 0.1973]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "half"}, "--model.mode: got 'half'; expected full, clean, vanilla"),
        ({"condition": "real"}, "shuffling and contrast need both; set --model.shuffle false"),
        ({"t_range": (0, 1000)}, r"--model.t_range: got \[0, 1000\]"),
        ({"ramp": 0}, "--model.ramp: got 0"),
        ({"betas": (0.9, 1.0)}, "--model.betas"),
    ],
)
def test_options_that_make_no_sense(options, said):
    with pytest.raises(UserError, match=said):
        adaptation(**options)


def test_what_is_missing():
    with pytest.raises(UserError, match="mode full needs one, such as ConditionalUNet"):
        NoiseAdaptation(network())
    run = SimpleNamespace(verb="fit", trainer=SimpleNamespace(precision="32-true"))
    run.data = SimpleNamespace(scale=4, crop_size=16)
    with pytest.raises(UserError, match="without real images; expected AdaptationImages with --data.lq_dir"):
        adaptation().check_run(run)
    run.data = SimpleNamespace(scale=4, crop_size=20, unpaired_dirs={"real": "LQ"})
    with pytest.raises(UserError, match="AdaptationImages with --data.lq_dir and --data.clean_dir"):
        adaptation(mode="clean").check_run(run)
    with pytest.raises(UserError, match="--data.crop_size: got 20; expected a multiple of 8"):
        adaptation(denoiser=DENOISER | {"patch": 4}).check_run(run)
    adaptation(mode="vanilla").check_run(run)


@pytest.mark.slow
def test_a_planted_world_prefers_clean_conditions():
    """A trained denoiser has a smaller error with clean real conditions, and the gradient points to them.

    All conditions show the clean image that is noised, so clean conditions tell the denoiser what the image is. Dirty
    ones have noise of their own.
    """
    torch.manual_seed(0)
    module = adaptation(scale=1, contrast="none", denoiser=DENOISER | {"channels": (16, 16)})
    optimizer = torch.optim.Adam(module.denoiser.parameters(), 2e-3)

    def error(dirt, seed):
        generator = torch.Generator().manual_seed(seed)
        base = torch.rand(16, 3, 2, 2, generator=generator)
        clean = F.interpolate(base, size=16, mode="bilinear")
        noise, other = (torch.randn(clean.shape, generator=generator) for _ in range(2))
        gamma = torch.rand(16, generator=generator)
        seen = gamma.view(-1, 1, 1, 1).sqrt() * clean + (1 - gamma).view(-1, 1, 1, 1).sqrt() * noise
        images = torch.cat([seen, clean, clean + dirt * other], dim=1)
        return (module.denoiser(images, gamma) - noise).square().mean()

    for step in range(300):
        optimizer.zero_grad()
        error(0.3 * torch.rand(16, 1, 1, 1), step).backward()
        optimizer.step()
    with torch.no_grad():
        assert error(0.0, 1000) < error(0.3, 1000) < error(0.8, 1000)
    dirt = torch.tensor(0.3, requires_grad=True)
    error(dirt, 1000).backward()
    assert dirt.grad > 0  # less dirt lowers the loss
