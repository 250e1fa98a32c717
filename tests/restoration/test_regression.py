"""The regression module: its loss and optimizer by hand, and fits by a real Trainer."""

import copy
import math

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from ddpm_pairs.callbacks import EMA, LastCheckpoint
from ddpm_pairs.degradations.ops.sharpen import unsharp_mask
from ddpm_pairs.errors import UserError
from ddpm_pairs.restoration.networks.rrdb import RRDBNet
from ddpm_pairs.restoration.regression import Regression
from ddpm_pairs.restoration.restorer import Restorer
from ddpm_pairs.restoration.weights import load_restorer

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


class Numbered(Dataset):
    """Pair number i is a function of i."""

    def __init__(self, first, length):
        self.first, self.length = first, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(self.first + index)
        hq = torch.rand(3, 8, 8, generator=generator)
        return {"hq": hq, "lq": F.avg_pool2d(hq, 4), "key": str(index)}


class Pairs(L.LightningDataModule):
    """Goes on after a resume where an unbroken fit would."""

    def train_dataloader(self):
        return DataLoader(Numbered(2 * self.trainer.global_step, 1000), 2)

    def val_dataloader(self):
        return DataLoader(Numbered(5000, 3), 2)


def network(seed=0, **options):
    torch.manual_seed(seed)
    return RRDBNet(**{"nf": 8, "nb": 1, "gc": 4, **options})


def trainer(steps, callbacks=(), **options):
    return L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        val_check_interval=2,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=bool(callbacks),
        callbacks=list(callbacks),
        **{"logger": False, **options},
    )


def fit(steps, folder, module=None, ckpt_path=None, **options):
    module = module or Regression(network(), warmup_steps=2, learning_rate=1e-3)
    runner = trainer(steps, [EMA(0.9, 1), LastCheckpoint(str(folder), 1000)], **options)
    runner.fit(module, Pairs(), ckpt_path=ckpt_path, weights_only=True)
    return torch.load(folder / "last.ckpt", weights_only=True)


@pytest.fixture(autouse=True)
def own_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_step_is_that_of_a_loop(tmp_path):
    module = Regression(network(), warmup_steps=2, learning_rate=1e-3)
    net = copy.deepcopy(module.net)
    trainer(4).fit(module, Pairs())
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, (0.9, 0.99))
    data = Numbered(0, 8)
    for step, rate in enumerate([1e-3 / 3, 2e-3 / 3, 1e-3, 1e-3]):
        optimizer.param_groups[0]["lr"] = rate
        pair = [data[2 * step], data[2 * step + 1]]
        hq, lq = (torch.stack([one[name] for one in pair]) for name in ("hq", "lq"))
        optimizer.zero_grad()
        (net(lq) - hq).abs().mean().backward()
        optimizer.step()
    torch.testing.assert_close(list(module.net.parameters()), list(net.parameters()), atol=2e-6, rtol=0)


def test_average_is_in_the_checkpoint_and_judged(tmp_path):
    checkpoint = fit(6, tmp_path)
    assert checkpoint["ddpm_pairs"] == {"kind": "restorer"}
    average, raw = checkpoint["state_dict"], checkpoint["current_model_state"]
    assert set(average) == {f"net.{name}" for name in network().state_dict()}
    assert not torch.equal(average["net.conv_last.weight"], raw["net.conv_last.weight"])
    loaded = load_restorer(tmp_path / "last.ckpt")
    assert torch.equal(loaded.conv_last.weight, average["net.conv_last.weight"])


def test_resumed_fit_is_the_unbroken_one_bit_for_bit(tmp_path):
    whole = fit(6, tmp_path / "whole")
    fit(3, tmp_path / "broken")
    again = fit(6, tmp_path / "broken", ckpt_path=str(tmp_path / "broken" / "last.ckpt"))
    for part in ("state_dict", "current_model_state"):
        for name, value in whole[part].items():
            assert torch.equal(again[part][name], value), name
    states = zip(
        whole["optimizer_states"][0]["state"].values(), again["optimizer_states"][0]["state"].values(), strict=True
    )
    assert all(torch.equal(one[name], other[name]) for one, other in states for name in ("exp_avg", "exp_avg_sq"))
    assert whole["lr_schedulers"] == again["lr_schedulers"]


def step_loss(batch, **options):
    module = Regression(network(), **options)
    module.log = lambda *args, **kwargs: None
    return module.training_step(batch, 0), module.net(batch["lq"])


@pytest.mark.parametrize(
    ("loss", "reference"),
    [
        ("l1", lambda e: e.abs().mean()),
        ("mse", lambda e: e.square().mean()),
        ("charbonnier", lambda e: (e**2 + 1e-6).sqrt().mean()),
    ],
)
def test_losses_and_sharpened_targets(photos, loss, reference):
    hq = torch.from_numpy(photos[0].copy()).permute(2, 0, 1)[None, :, :64, :64].float() / 255
    batch = {"hq": hq, "lq": F.avg_pool2d(hq, 4)}
    value, restored = step_loss(batch, loss=loss)
    torch.testing.assert_close(value, reference(restored - hq))
    sharpened, restored = step_loss(batch, loss=loss, sharpen_hq=True)
    torch.testing.assert_close(sharpened, reference(restored - unsharp_mask(hq)))
    assert not torch.allclose(sharpened, value, rtol=1e-4)


def test_learning_rate_falls_to_one_percent(tmp_path):
    seen = []

    class Watch(L.Callback):
        def on_train_batch_start(self, trainer, module, *args):
            seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    trainer(4, [Watch()]).fit(Regression(network(), cosine_decay=True, learning_rate=1.0e-4), Pairs())
    expected = [1e-4 * (0.01 + 0.99 * (1 + math.cos(math.pi * step / 4)) / 2) for step in range(4)]
    assert seen == pytest.approx(expected)
    with pytest.raises(ValueError, match="--trainer.max_steps: got -1; expected 1 or more, the length"):
        trainer(-1).fit(Regression(network(), cosine_decay=True), Pairs())


def test_loss_that_is_no_number_stops_the_fit(tmp_path):
    net = network()
    with torch.no_grad():
        net.conv_last.bias.fill_(float("nan"))
    with pytest.raises(UserError, match=r"became nan at step 0; nothing is saved yet; start again with a lower"):
        trainer(2).fit(Regression(net), Pairs())


def test_losses_are_logged(tmp_path):
    runner = trainer(2)
    runner.fit(Regression(network()), Pairs())
    assert 0 < runner.callback_metrics["train/loss"] < 1


def test_bfloat16(tmp_path):
    module = Regression(network())
    trainer(2, precision="bf16-mixed").fit(module, Pairs())
    assert {weight.dtype for weight in module.parameters()} == {torch.float32}


class TestInitFrom:
    def test_takes_weights(self, tmp_path):
        trained = network(1)
        torch.save({"params_ema": trained.state_dict()}, tmp_path / "x.pth")
        module = Regression(network(0), init_from=str(tmp_path / "x.pth"))
        for name, value in trained.state_dict().items():
            assert torch.equal(module.net.state_dict()[name], value)

    def test_another_scale_keeps_its_own_first_convolution(self, tmp_path):
        torch.save(network(1).state_dict(), tmp_path / "x4.pth")
        before = network(0, scale=2)
        with pytest.warns(UserWarning, match="is x4, the network x2; conv_first keeps its initial weights"):
            net = Regression(copy.deepcopy(before), init_from=str(tmp_path / "x4.pth")).net
        assert torch.equal(net.conv_first.weight, before.conv_first.weight)
        assert torch.equal(net.conv_hr.weight, network(1).conv_hr.weight)

    def test_another_size_does_not_fit(self, tmp_path):
        torch.save(network(1, nb=2).state_dict(), tmp_path / "x.pth")
        with pytest.raises(ValueError, match="does not fit the RRDBNet of the config"):
            Regression(network(), init_from=str(tmp_path / "x.pth"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss": "l2"}, "--model.loss: got 'l2'"),
        ({"learning_rate": 0.0}, "--model.learning_rate: got 0.0"),
        ({"warmup_steps": -1}, "--model.warmup_steps: got -1"),
    ],
)
def test_wrong_arguments(options, said):
    with pytest.raises(ValueError, match=said):
        Regression(network(), **options)


class FourPairs(L.LightningDataModule):
    """The same four pairs in every batch."""

    def __init__(self, photos):
        super().__init__()
        crops = [torch.from_numpy(photo[16:32, 32:48].copy()).permute(2, 0, 1).float() / 255 for photo in photos]
        hq = torch.stack(crops)
        self.batch = {"hq": hq, "lq": F.interpolate(hq, scale_factor=0.25, mode="bicubic", antialias=True), "key": []}

    def train_dataloader(self):
        return DataLoader([self.batch] * 500, None)


@pytest.mark.slow
def test_overfits_four_pairs(photos, tmp_path):
    data = FourPairs(photos)
    torch.manual_seed(0)
    module = Regression(RRDBNet(4, nf=32, nb=1, gc=16), learning_rate=4e-3, cosine_decay=True, warmup_steps=20)
    trainer(500, [EMA(0.9, 1)], limit_val_batches=0).fit(module, data)
    found = module.eval().validation_step(data.batch, 0)
    psnr = -10 * (found["restored"] - found["hq"]).square().mean(dim=(1, 2, 3)).log10()
    assert psnr.min() > 35


class OwnNet(torch.nn.Module):
    """A user's network with nothing but what it needs."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, lq):
        return self.layer(lq)


def test_a_network_of_your_own_needs_no_attributes():
    net = OwnNet()
    restorer = Restorer(net)
    assert (net.scale, net.multiple, net.side) == (1, 1, None)
    lq = torch.rand(3, 20, 30)
    torch.testing.assert_close(restorer._restore_whole(lq), net(lq[None])[0].clamp(0, 1))
    with pytest.raises(UserError, match=r"the pairs are x4, the network x1 \(its attribute `scale`, default 1\)"):
        restorer.check(4)


@pytest.mark.parametrize(("name", "value"), [("scale", 0), ("scale", "4"), ("multiple", None), ("side", -1)])
def test_attributes_of_a_network_are_checked(name, value):
    net = OwnNet()
    setattr(net, name, value)
    with pytest.raises(UserError, match=f"OwnNet with {name} {value!r}; expected an integer above 0"):
        Restorer(net)
