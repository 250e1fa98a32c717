"""The DDPM's losses, draws, learning rate and checkpoints, in real fits of a few steps."""

import math
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import nn
from torch.utils.data import DataLoader

from ddpm_pairs.diffusion import DDPM, Denoiser, Schedule, UNet, load_denoiser
from ddpm_pairs.diffusion.module import BandLosses
from ddpm_pairs.errors import UserError
from ddpm_pairs.export import export_denoiser
from ddpm_pairs.shipped import shipped_weights

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


class Recorder(nn.Module):
    """Scales its input, and remembers what it was asked in training."""

    def __init__(self, scale=0.5):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))
        self.asked = []

    def forward(self, x_t, timestep):
        if self.training:
            self.asked.append((timestep.clone(), x_t.detach().clone()))
        return self.scale * x_t


class SecondRank(SingleDeviceStrategy):
    """One process that takes itself for another."""

    def __init__(self):
        super().__init__("cpu")
        self.global_rank = 1


def tiny_unet(seed=0, **options):
    torch.manual_seed(seed)
    return UNet(**{"channels": [8, 16], "layers_per_block": 1, "attention_levels": [], "norm_groups": 4, **options})


def batches(size=4):
    """Endless equal batches of grey, so that all that varies is what the module draws."""

    def stream():
        while True:
            yield {"lq": torch.full((size, 3, 8, 8), 0.5)}

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return stream()

    return DataLoader(Stream(), batch_size=None)


def validation(pictures):
    items = [{"lq": picture, "key": f"key {n}"} for n, picture in enumerate(pictures)]
    return DataLoader(items, batch_size=2)


def trainer(steps, **options):
    options = {"logger": False, "enable_checkpointing": False, **options}
    return L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **options,
    )


def asked(steps=3, options=None, **module):
    """(table indices, x_t) of each training batch of a fit."""
    net = Recorder()
    trainer(steps, **(options or {})).fit(DDPM(net, num_train_timesteps=100, **module), batches())
    return net.asked


class TestLoss:
    @pytest.mark.parametrize("loss", ["l1", "mse"])
    @pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
    def test_of_each_picture_is_the_mean_over_its_pixels(self, loss, prediction_type):
        generator = torch.Generator().manual_seed(0)
        lq, noise = torch.rand(2, 3, 4, 4, generator=generator), torch.randn(2, 3, 4, 4, generator=generator)
        module = DDPM(Recorder(0.3), loss=loss, prediction_type=prediction_type)
        found = module.picture_losses(module.net, lq, torch.tensor([20, 700]), noise)
        for n, index in enumerate((20, 700)):
            level = Schedule("cosine", 1000).alpha_bars[index].item()
            total = 0.0
            for pixel, eps in zip(lq[n].flatten().tolist(), noise[n].flatten().tolist(), strict=True):
                x_0 = 2 * pixel - 1
                x_t = math.sqrt(level) * x_0 + math.sqrt(1 - level) * eps
                v = math.sqrt(level) * eps - math.sqrt(1 - level) * x_0
                error = 0.3 * x_t - (eps if prediction_type == "epsilon" else v)
                total += abs(error) if loss == "l1" else error**2
            assert found[n].item() == pytest.approx(total / 48, rel=1e-5)

    def test_bands_are_exact_means_over_unequal_batches(self):
        bands = BandLosses(10, torch.device("cpu"))  # indices 0-1, 2-4, 5-7, 8-9
        bands.update(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 1, 2]))
        bands.update(torch.tensor([8.0, 16.0]), torch.tensor([4, 9]))
        means = bands.compute(trainer(1))
        assert {name: value.item() for name, value in means.items()} == {
            "loss": pytest.approx(31 / 5),
            "loss_t1-2": 1.5,
            "loss_t3-5": 6.0,
            "loss_t9-10": 16.0,
        }

    @pytest.mark.parametrize("t_max", [1, 2, 3])
    def test_bands_of_very_few_steps(self, t_max):
        bands = BandLosses(t_max, torch.device("cpu"))
        bands.update(torch.arange(t_max).float(), torch.arange(t_max))
        means = {name: value.item() for name, value in bands.compute(trainer(1)).items()}
        assert means.pop("loss") == pytest.approx((t_max - 1) / 2)
        assert means == {f"loss_t{n + 1}-{n + 1}": float(n) for n in range(t_max)}


class TestDraws:
    def test_repeat_with_the_seed(self):
        first, again = asked(seed=3), asked(seed=3)
        for one, two in zip(first, again, strict=True):
            assert torch.equal(one[0], two[0])
            assert torch.equal(one[1], two[1])

    @pytest.mark.parametrize(
        ("options", "module"), [({}, {"seed": 1}), ({"strategy": SecondRank()}, {})], ids=["seed", "rank"]
    )
    def test_depend_on(self, options, module):
        one, two = asked(1), asked(1, options, **module)
        assert not torch.equal(one[0][1], two[0][1])

    def test_differ_from_step_to_step_and_inside_a_step(self):
        pictures = [x_t for _, x_t in asked(2, {"accumulate_grad_batches": 3})]
        assert len(pictures) == 6
        assert len({round(x_t.sum().item(), 4) for x_t in pictures}) == 6

    def test_stay_below_t_max_and_reach_it(self):
        indices = torch.cat([index for index, _ in asked(40, t_max=5)])
        assert set(indices.tolist()) == set(range(5))

    def test_of_validation_belong_to_the_key(self):
        module = DDPM(Recorder(), num_train_timesteps=100, t_max=50)
        lq = torch.zeros(3, 3, 4, 4)
        index, noise = module.validation_draws({"lq": lq, "key": ["a", "b", "c"]})
        again, other = module.validation_draws({"lq": lq[:2], "key": ["c", "a"]})
        assert again.tolist() == [index[2], index[0]]
        assert torch.equal(other, noise[[2, 0]])
        assert not torch.equal(noise[0], noise[1])


class TestFit:
    def test_learning_rate_warms_up_and_decays(self):
        class Rates(L.Callback):
            seen = []

            def on_train_batch_start(self, trainer, module, batch, batch_idx):
                self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])

        module = DDPM(Recorder(), learning_rate=0.1, warmup_steps=3, cosine_decay=True)
        trainer(8, callbacks=Rates()).fit(module, batches())
        expected = []
        for step in range(8):
            fall = 0.01 + 0.99 * (1 + math.cos(math.pi * step / 8)) / 2
            expected.append(0.1 * min(1, (step + 1) / 4) * fall)
        assert Rates.seen == pytest.approx(expected)

    def test_learning_rate_is_constant_by_default(self):
        module = DDPM(Recorder(), learning_rate=0.02)
        fit = trainer(5)
        fit.fit(module, batches())
        assert fit.optimizers[0].param_groups[0]["lr"] == 0.02
        assert fit.optimizers[0].param_groups[0]["betas"] == (0.9, 0.99)

    def test_decay_needs_a_length(self):
        with pytest.raises(ValueError, match="--trainer.max_steps: got -1; expected 1 or more, the length"):
            trainer(-1).fit(DDPM(Recorder(), cosine_decay=True), batches())

    def test_validation_logs_mean_and_bands_over_all_pictures(self):
        pictures = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        module = DDPM(Recorder(), num_train_timesteps=100, t_max=8, loss="mse")
        fit = trainer(1)
        fit.validate(module, validation(pictures), verbose=False)
        index, noise = module.validation_draws({"lq": pictures, "key": [f"key {n}" for n in range(5)]})
        losses = module.picture_losses(module.net, pictures, index, noise)
        expected = {"val/loss": losses.mean().item()}
        for low, high in ((0, 2), (2, 4), (4, 6), (6, 8)):
            inside = (index >= low) & (index < high)
            if inside.any():
                expected[f"val/loss_t{low + 1}-{high}"] = losses[inside].mean().item()
        found = {name: value.item() for name, value in fit.callback_metrics.items()}
        assert found == pytest.approx(expected, rel=1e-5)
        assert len(expected) > 2

    def test_a_loss_that_is_no_number_stops_the_fit(self):
        module = DDPM(Recorder(math.inf))
        with pytest.raises(UserError, match=r"became .* at step 0.*--model.learning_rate"):
            trainer(2).fit(module, batches())


class TestCheckpoint:
    def test_holds_weights_and_what_they_mean(self, tmp_path):
        module = DDPM(tiny_unet(), t_max=300)
        fit = trainer(2)
        fit.fit(module, batches(), validation(torch.rand(2, 3, 8, 8)))
        fit.save_checkpoint(tmp_path / "x.ckpt")
        saved = torch.load(tmp_path / "x.ckpt", weights_only=True)
        assert saved["ddpm_pairs"] == module.denoiser().spec()
        assert set(saved["state_dict"]) == {f"net.{name}" for name in module.net.state_dict()}
        loaded = load_denoiser(tmp_path / "x.ckpt")
        assert loaded.spec() == module.denoiser().spec()
        assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), module.parameters(), strict=True))

    @pytest.mark.slow  # imports the compiler
    def test_compiling_leaves_the_names(self):
        module = DDPM(tiny_unet(), compile=True)
        names = set(module.state_dict())
        module.trainer = trainer(1)
        module.setup("fit")
        assert set(module.state_dict()) == names


@pytest.fixture(params=["x.ckpt", "x.safetensors", "x"], ids=["checkpoint", "safetensors", "folder"])
def trained(request, tmp_path):
    """Weights in each form, and their denoiser."""
    source = Denoiser(tiny_unet(7), Schedule("linear", 200), "v_prediction", 50)
    path = tmp_path / request.param
    if path.suffix == ".ckpt":
        module = DDPM(source.net, "linear", 200, 50, "v_prediction")
        fit = trainer(1)
        fit.strategy.connect(module)
        fit.save_checkpoint(path, weights_only=True)
    else:
        export_denoiser(source, path)
    return path, source


MATCHING = {"schedule": "linear", "num_train_timesteps": 200, "prediction_type": "v_prediction"}


class TestInitFrom:
    @pytest.mark.parametrize("named", [False, True])
    def test_takes_network_and_weights(self, trained, named):
        path, source = trained
        module = DDPM(tiny_unet(1) if named else None, init_from=str(path), **MATCHING)
        assert all(torch.equal(a, b) for a, b in zip(module.net.parameters(), source.net.parameters(), strict=True))
        assert module.net.training
        assert module.t_max == 200  # what is trained from here on is asked of this module, not of the old one
        fit = trainer(1)
        fit.fit(module, batches())
        assert not torch.equal(next(module.net.parameters()), next(source.net.parameters()))

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            (
                {"schedule": "cosine"},
                "has schedule .*linear.*, but the config has .*cosine.*use the same --model.schedule",
            ),
            ({"num_train_timesteps": 100}, "200.*100"),
            ({"prediction_type": "epsilon"}, "has prediction_type v_prediction, but the config has epsilon"),
            ({"net": [8, 8]}, "contains a different network than --model.net"),
        ],
    )
    def test_contradictions(self, trained, changes, said):
        options = {**MATCHING, **changes}
        if "net" in options:
            options["net"] = tiny_unet(channels=options["net"])
        with pytest.raises(ValueError, match=said) as caught:
            DDPM(init_from=str(trained[0]), **options)
        assert "\n" not in str(caught.value)

    def test_missing_file(self):
        with pytest.raises(ValueError, match="nowhere.ckpt does not exist"):
            DDPM(init_from="nowhere.ckpt")

    def test_shipped_weights_go_by_their_name(self):
        started, shipped = DDPM(init_from="blind_camera"), load_denoiser(shipped_weights("blind_camera"))
        assert all(torch.equal(a, b) for a, b in zip(started.net.parameters(), shipped.net.parameters(), strict=True))

    def test_a_folder_trains_as_the_network_of_diffusers(self, tmp_path):
        from diffusers import UNet2DModel

        source = Denoiser(tiny_unet(7, attention_levels=[1], head_dim=8), Schedule("cosine", 1000))
        export_denoiser(source, tmp_path / "x")
        reference = UNet2DModel.from_pretrained(tmp_path / "x", subfolder="unet").train()
        module = DDPM(init_from=str(tmp_path / "x"))
        x, index = torch.rand(2, 3, 8, 8), torch.tensor([3, 700])
        module.net(x, index).abs().mean().backward()
        reference(x, index).sample.abs().mean().backward()
        gradients = dict(reference.named_parameters())
        for name, weight in module.net.named_parameters():
            assert torch.equal(weight.grad, gradients[name].grad), name


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"net": None}, "--model.net is missing; the DDPM needs a network"),
        ({"loss": "huber"}, "--model.loss: got 'huber'; expected l1 or mse"),
        ({"learning_rate": 0.0}, "--model.learning_rate: got 0.0; expected a positive number"),
        ({"t_max": 2000}, "t_max: got 2000; expected 1 to 1000"),
        ({"schedule": "karras"}, "'karras'"),
        ({"prediction_type": "flow"}, "'flow'"),
    ],
)
def test_wrong_arguments(options, said):
    with pytest.raises(ValueError, match=said):
        DDPM(**{"net": Recorder(), **options})


def test_no_fit_writes_into_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer(1).fit(DDPM(Recorder()), batches())
    assert list(Path().iterdir()) == []
