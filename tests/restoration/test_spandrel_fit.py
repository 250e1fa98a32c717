"""A network of spandrel's as a restorer: fine-tuned, resumed, exported, and opened by spandrel again."""

import numpy as np
import pytest
import torch
from PIL import Image
from spandrel import ModelLoader
from spandrel.architectures.SPAN import SPAN
from spandrel.architectures.SwinIR import SwinIR
from tiny_gan import TinyPairs, rrdb_gan, trainer

from ddpm_pairs.callbacks import EMA, LastCheckpoint
from ddpm_pairs.cli import main as cli
from ddpm_pairs.restoration import Regression, SpandrelNet, load_restorer
from ddpm_pairs.restoration.adversarial import Adversarial
from ddpm_pairs.restoration.initial_weights import start_network

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


def span(seed=0):
    torch.manual_seed(seed)
    return SPAN(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=4)


@pytest.fixture
def weights(tmp_path):
    torch.save({"params": span().state_dict()}, tmp_path / "span.pth")
    return str(tmp_path / "span.pth")


@pytest.fixture
def pairs(tmp_path, photos):
    """Four pairs of 64x48 and 16x12 px."""
    for folder, size in (("hq", (64, 48)), ("lq", (16, 12))):
        (tmp_path / "pairs" / folder).mkdir(parents=True)
        for number, photo in enumerate(photos):
            Image.fromarray(photo).resize(size, Image.BOX).save(tmp_path / "pairs" / folder / f"{number}.png")
    return str(tmp_path / "pairs")


@pytest.mark.slow
def test_fit_export_and_predict(tmp_path, weights, pairs, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    quiet = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    words = ["fit", "--config", "rrdb_small.yaml", "--data.pairs_dir", pairs, "--output_dir", "run", *quiet]
    words += ["--model.net", "ddpm_pairs.restoration.SpandrelNet", "--model.net.weights", weights]
    words += ["--data.crop_size", "48", "--data.batch_size", "2", "--data.num_workers", "0"]
    words += ["--trainer.max_steps", "2", "--trainer.val_check_interval", "2"]
    assert cli.main(words) == 0, capsys.readouterr().err
    checkpoint = torch.load("run/last.ckpt", weights_only=True)
    assert (checkpoint["global_step"], checkpoint["ddpm_pairs"]) == (2, {"kind": "restorer"})
    averaged = {name.removeprefix("net.spandrel."): value for name, value in checkpoint["state_dict"].items()}
    assert averaged.keys() == span().state_dict().keys()
    assert not torch.equal(averaged["conv_cat.weight"], span().conv_cat.weight)
    for out in ("x.safetensors", "x.pth"):
        assert cli.main(["export", "run/last.ckpt", out]) == 0
        opened = ModelLoader().load_from_file(out)
        assert (opened.architecture.id, opened.scale) == ("SPAN", 4)
        stored = opened.model.state_dict()
        for name, value in averaged.items():
            if ".eval_conv." not in name:  # computed from the others
                assert torch.equal(stored[name], value)
    # the original file is not needed any more, whatever the config says
    words = ["predict", "--config", "rrdb.yaml", "--ckpt_path", "run/last.ckpt", "--data.lq_dir", f"{pairs}/lq"]
    assert cli.main([*words, "--output_dir", "restored", *quiet]) == 0, capsys.readouterr().err
    for number in range(4):
        lq = torch.from_numpy(np.asarray(Image.open(f"{pairs}/lq/{number}.png")).copy()).permute(2, 0, 1) / 255
        expected = opened(lq[None])[0].mul(255).round().byte().permute(1, 2, 0).numpy()
        found = np.asarray(Image.open(f"restored/restored/{number}.png"))
        assert np.abs(found.astype(int) - expected).max() <= 1


def fitted(folder, steps, weights, resume=None):
    module = Regression(SpandrelNet(weights), learning_rate=1e-3)
    runner = trainer(steps, callbacks=[EMA(0.9, 1), LastCheckpoint(str(folder))])
    runner.fit(module, TinyPairs(side=32, scale=4), ckpt_path=resume, weights_only=True)
    return torch.load(folder / "last.ckpt", weights_only=True)


def test_a_resumed_fit_needs_its_checkpoint_alone(tmp_path, weights):
    """Validation runs at every second step, and computes SPAN's convolutions for inference each time."""
    unbroken = fitted(tmp_path / "unbroken", 4, weights)
    fitted(tmp_path / "broken", 2, weights)
    last = str(tmp_path / "broken" / "last.ckpt")
    (tmp_path / "span.pth").unlink()
    resumed = fitted(tmp_path / "resumed", 4, last, resume=last)
    assert resumed["global_step"] == 4
    for part in ("state_dict", "current_model_state"):
        trained = {name: value for name, value in unbroken[part].items() if ".eval_conv." not in name}
        assert all(torch.equal(resumed[part][name], value) for name, value in trained.items())
    net = load_restorer(tmp_path / "resumed" / "last.ckpt")
    assert torch.equal(net.spandrel.conv_cat.weight, unbroken["state_dict"]["net.spandrel.conv_cat.weight"])


def test_adversarial_training(tmp_path, weights):
    module = Adversarial(SpandrelNet(weights), rrdb_gan().discriminator)
    trainer(2, default_root_dir=tmp_path).fit(module, TinyPairs(side=32, scale=4))
    assert not torch.equal(module.net.spandrel.conv_cat.weight, span().conv_cat.weight)
    assert not any(part.eval_conv.weight.requires_grad for part in module.net._folding_parts())


def test_init_from(tmp_path, weights):
    torch.save(span(1).state_dict(), tmp_path / "other.pth")
    net = SpandrelNet(weights)
    start_network(net, str(tmp_path / "other.pth"))
    assert torch.equal(net.spandrel.conv_cat.weight, span(1).conv_cat.weight)
    windows = {"img_size": 16, "window_size": 8, "embed_dim": 12, "depths": (2,), "num_heads": (2,)}
    torch.save(SwinIR(**windows, upscale=4, upsampler="pixelshuffle").state_dict(), tmp_path / "swinir.pth")
    with pytest.raises(ValueError, match="does not fit the SpandrelNet of the config: Missing key") as caught:
        start_network(net, str(tmp_path / "swinir.pth"))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_an_error_in_one_line(tmp_path, pairs, capsys):
    words = ["fit", "--config", "rrdb_small.yaml", "--data.pairs_dir", pairs, "--output_dir", str(tmp_path / "run")]
    words += ["--model.net", "ddpm_pairs.restoration.SpandrelNet", "--model.net.weights", "nowhere.pth"]
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert "--model.net.weights: nowhere.pth does not exist; expected a .pth" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
