"""Self-consistency: both errors by hand, planted worlds, frozen models, and messages."""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from tiny_adaptation import network, real_batch
from tiny_baselines import NoisyMean, assert_equal, consistency, fitted, noise_consistency
from tiny_ddpm import save_ckpt, save_folder, tiny_denoiser
from tiny_learned import small_pdm
from torch import nn

from ddpm_pairs.degradations.learned.dasr import DASR
from ddpm_pairs.degradations.learned.dsgan import DSGAN
from ddpm_pairs.degradations.learned.files import save_synthesizer
from ddpm_pairs.degradations.learned.pools import RealSR
from ddpm_pairs.diffusion import Denoiser, Schedule
from ddpm_pairs.errors import UserError
from ddpm_pairs.restoration import Regression, SelfConsistency
from ddpm_pairs.restoration.adaptation.consistency import (
    DegradedAgain,
    NoiseSpace,
    load_consistency,
    noise_distance,
    predicted_noise,
)
from ddpm_pairs.tensors import seed_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


@pytest.fixture(autouse=True)
def own_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rows_of(step, n):
    return [torch.Generator().manual_seed(seed_of("self-consistency", 0, step, row)) for row in range(n)]


def steps_by_hand(module, error):
    """Two steps of a fit in float64, compared with a plain loop; the frozen model works in float32.

    With this precision, Lightning draws random numbers in float64, too.
    """
    net = copy.deepcopy(module.net).double()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, (0.9, 0.99))
    fitted(module, 2, precision="64-true", limit_val_batches=0)
    for step in range(2):
        batch = {name: one.double() for name, one in real_batch(step).items() if name != "key"}
        restored = net(batch["real"]).float()
        loss = F.l1_loss(net(batch["lq"]), batch["hq"]) + 0.5 * error(restored, batch["real"].float(), rows_of(step, 2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(list(module.net.parameters()), list(net.parameters()), rtol=0, atol=1e-5)


def test_steps_by_hand_with_a_degradation():
    def error(restored, real, rows):
        again = []
        for image, row in zip(restored, rows, strict=True):
            draw = torch.randint(2**31, (), generator=torch.Generator().manual_seed(row.initial_seed()))
            noise_row = torch.Generator().manual_seed(int(draw))
            noise = torch.randn(1, 3, 4, 4, generator=noise_row, dtype=torch.float64)
            again.append(F.avg_pool2d(image[None], 4) + 0.01 * noise)
        return F.l1_loss(torch.cat(again), real)

    steps_by_hand(consistency(learning_rate=1e-3), error)


def test_steps_by_hand_with_a_ddpm():
    denoiser = tiny_denoiser((4, 8))

    def error(restored, real, rows):
        small = F.interpolate(restored, size=(4, 4), mode="bicubic", antialias=True) * 2 - 1
        errors = []
        for image, target, row in zip(small, real * 2 - 1, rows, strict=True):
            t = 3 + int(torch.rand((), generator=row, dtype=torch.float64) * 38)  # 3 to 40
            noise = torch.randn(3, 4, 4, generator=row, dtype=torch.float64).float()
            bar = denoiser.schedule.alpha_bars[t - 1].float()
            x_t = bar.sqrt() * image + (1 - bar).sqrt() * noise
            wanted = (x_t - bar.sqrt() * target) / (1 - bar).sqrt()
            predicted = denoiser.net(x_t[None], torch.tensor([t - 1]))[0]
            errors.append(((1 - bar) / bar).sqrt() * (predicted - wanted).abs().mean() / 2)
        return sum(errors) / 2

    steps_by_hand(noise_consistency(learning_rate=1e-3), error)


def test_the_weight_makes_it_the_distance_of_the_clean_image():
    generator = torch.Generator().manual_seed(0)
    x_t, output, real = (torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    bar = torch.tensor([0.999, 0.05], dtype=torch.float64).view(-1, 1, 1, 1)
    signal, sigma = bar.sqrt(), (1 - bar).sqrt()
    clean = {
        "epsilon": (x_t - sigma * output) / signal,
        "v_prediction": signal * x_t - sigma * output,
        "sample": output,
    }
    for name, image in clean.items():
        found = noise_distance(predicted_noise(x_t, output, bar, name), x_t, real, bar)
        torch.testing.assert_close(found, (image - real).abs().mean())


class GaussianData(nn.Module):
    """The best noise prediction for images of independent normal pixels with this variance."""

    def __init__(self, schedule, variance):
        super().__init__()
        self.bars, self.variance, self.unused = schedule.alpha_bars.float(), variance, nn.Parameter(torch.ones(()))

    def forward(self, x_t, index):
        bar = self.bars[index].view(-1, 1, 1, 1)
        return (1 - bar).sqrt() * x_t / (bar * self.variance + 1 - bar)


def test_planted_worlds_prefer_the_inverse_to_a_blur():
    """Real LQ is the mean of each cell of a sharp image; a blurred image has means of other cells in it."""
    sharp = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    blurred = F.avg_pool2d(sharp, 9, 1, 4, count_include_pad=False)
    real = F.avg_pool2d(sharp, 4)
    model = DegradedAgain(NoisyMean(noise=0.001))
    found = [model.error(image, real, rows_of(0, 4)) for image in (sharp, blurred)]
    assert found[0] < 0.002 < 0.02 < found[1]
    schedule = Schedule("cosine", 1000)
    model = NoiseSpace(Denoiser(GaussianData(schedule, 0.3), schedule), (50, 150))
    found = [model.error(image, sharp, rows_of(0, 4)).item() for image in (sharp, blurred, sharp + 0.3)]
    assert found[0] < 0.6 * found[1] and found[0] < 0.6 * found[2]


@pytest.mark.parametrize("make", [consistency, noise_consistency])
def test_a_gradient_step_on_the_restored_image_lowers_the_error(make):
    module = make()
    restored, real = real_batch(0)["hq"].clone().requires_grad_(), real_batch(0)["real"]
    error = module.consistency.error(restored, real, rows_of(0, 2))
    (gradient,) = torch.autograd.grad(error, restored)
    with torch.no_grad():
        moved = module.consistency.error(restored - 0.1 * gradient / gradient.norm(), real, rows_of(0, 2))
    assert gradient.abs().sum() > 0 and moved < error


@pytest.mark.parametrize(
    "net", [DSGAN(4, 8, 1), DASR(4, 8, 1), small_pdm(), RealSR(4, 2, 8, 3, 16)], ids=lambda n: n.name
)
def test_all_learned_degradations_give_a_gradient(net, tmp_path):
    if net.name == "realsr":
        net.kernels.fill_(1 / 64)
    save_synthesizer(net, tmp_path / "net.safetensors", {})
    model = load_consistency(str(tmp_path / "net.safetensors"), (50, 150))
    restored = torch.rand(2, 3, 32, 32, requires_grad=True)
    error = model.error(restored, torch.rand(2, 3, 8, 8), rows_of(0, 2))
    error.backward()
    assert restored.grad.abs().sum() > 0 and all(one.grad is None for one in model.net.parameters())
    again = model.error(restored, torch.rand(2, 3, 8, 8), rows_of(0, 2))
    assert again.isfinite()


@pytest.mark.parametrize("make", [consistency, noise_consistency])
def test_the_frozen_model_is_nowhere(make):
    module = make()
    model = module.consistency
    frozen = getattr(model, "net", None) or model.denoiser
    before = copy.deepcopy(frozen.state_dict())
    fitted(module, 2)
    assert module.state_dict().keys() == Regression(network()).state_dict().keys()
    assert len(list(module.parameters())) == len(list(module.net.parameters()))
    assert all(one.grad is None and not one.requires_grad for one in frozen.parameters())
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())
    assert not frozen.training


def test_weight_zero_is_regression_bit_for_bit():
    options = {"learning_rate": 1e-3, "warmup_steps": 2}
    module, plain = SelfConsistency(network(), weight=0, **options), Regression(network(), **options)
    fitted(module, 4)
    fitted(plain, 4)
    assert module.needs() == ()
    assert_equal(module, plain)


def test_files_and_names(tmp_path):
    save_ckpt(tiny_denoiser(t_max=200), tmp_path / "ddpm.ckpt")
    save_folder(tiny_denoiser(t_max=200), tmp_path / "folder")
    for name in (str(tmp_path / "ddpm.ckpt"), str(tmp_path / "folder"), "blind_camera"):
        assert isinstance(load_consistency(name, (50, 150)), NoiseSpace)
    with pytest.raises(UserError, match=r"--model.t_range: got \[50, 250\]; expected 200 or less"):
        load_consistency(str(tmp_path / "ddpm.ckpt"), (50, 250))
    torch.save({"state_dict": {}, "ddpm_pairs": {"kind": "restorer"}}, tmp_path / "rrdb.ckpt")
    with pytest.raises(UserError, match="rrdb.ckpt contains a restorer; expected a DDPM or a learned degradation"):
        load_consistency(str(tmp_path / "rrdb.ckpt"), (50, 150))
    with pytest.raises(UserError, match="checkpoint nothing does not exist"):
        load_consistency("nothing", (50, 150))


def test_what_is_missing_or_does_not_fit(tmp_path):
    for options, said in (
        ({"weight": -1.0}, "--model.weight"),
        ({"t_range": (0, 9)}, r"--model.t_range: got \[0, 9\]"),
    ):
        with pytest.raises(UserError, match=said):
            SelfConsistency(network(), **options)
    run = SimpleNamespace(verb="fit", trainer=SimpleNamespace(precision="32-true"))
    run.data = SimpleNamespace(scale=4, crop_size=16)
    with pytest.raises(UserError, match="without real images"):
        SelfConsistency(network()).check_run(run)
    run.data.unpaired_dirs = {"real": "LQ"}
    with pytest.raises(UserError, match="--model.degraded_by: got none"):
        SelfConsistency(network()).check_run(run)
    save_synthesizer(DSGAN(2, 8, 1), tmp_path / "x2.safetensors", {})
    with pytest.raises(UserError, match="a degradation of scale 2; expected 4, the restorer's"):
        SelfConsistency(network(), str(tmp_path / "x2.safetensors")).check_run(run)
    with pytest.raises(UserError, match="--data.crop_size: got 16; expected a multiple of 32 for --model.degraded_by"):
        SelfConsistency(network(), "blind_camera").check_run(run)
    SelfConsistency(network(), "nothing", weight=0).check_run(run)
    run.verb = "test"
    SelfConsistency(network()).check_run(run)  # only training needs it
