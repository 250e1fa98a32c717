"""Denoisers, and the three forms in which they lie on disk."""

import json
import re

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch import nn

from ddpm_pairs.diffusion import Denoiser, Schedule, UNet, load_denoiser
from ddpm_pairs.diffusion.denoiser import predict_clean
from ddpm_pairs.errors import UserError
from ddpm_pairs.export import export_denoiser
from ddpm_pairs.trust import trust_classes

X = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
INDEX = torch.tensor([3, 70])


class OwnNetwork(nn.Module):
    """A user's network, found by its class path."""

    multiple = 5

    def __init__(self, width=4, kernel=3):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, kernel, padding=kernel // 2), nn.SiLU(), nn.Conv2d(width, 3, 3, padding=1)
        )

    def forward(self, x_t, timestep):
        return self.layers(x_t) + timestep.view(-1, 1, 1, 1) / 1000


class NotANetwork:
    pass


def tiny_unet(seed=0, **options):
    torch.manual_seed(seed)
    return UNet(**{"channels": [8, 16], "layers_per_block": 1, "attention_levels": [], "norm_groups": 4, **options})


def denoiser(net=None, **options):
    return Denoiser(net or tiny_unet(), Schedule("cosine", 100), **options).eval()


def write_checkpoint(path, source, **changes):
    """A file as training writes it."""
    state = {f"net.{name}": value for name, value in source.net.state_dict().items()}
    torch.save({"state_dict": state, "ddpm_pairs": {**source.spec(), **changes}}, path)
    return path


@pytest.fixture
def folder(tmp_path):
    """A diffusers folder of a small network with attention, and that network."""
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=16,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        norm_num_groups=4,
        downsample_padding=0,
    ).eval()
    DDPMPipeline(unet, DDPMScheduler(prediction_type="v_prediction")).save_pretrained(tmp_path / "pipeline")
    return tmp_path / "pipeline", unet


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


class TestDenoiser:
    @pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
    def test_gives_the_clean_picture_that_the_output_implies(self, prediction_type):
        ours = denoiser(prediction_type=prediction_type)
        expected = predict_clean(X, ours.net(X, INDEX), INDEX, Schedule("cosine", 100).alpha_bars, prediction_type)
        torch.testing.assert_close(ours(X, INDEX), expected, atol=1e-5, rtol=0)

    def test_runs_in_the_dtype_of_its_weights(self):
        ours = denoiser(prediction_type="v_prediction")
        exact = ours(X, INDEX)
        rough = ours.bfloat16()(X, INDEX)
        assert rough.dtype == torch.float32
        torch.testing.assert_close(rough, exact, atol=0.05, rtol=0)

    def test_multiple_is_the_networks(self):
        assert denoiser(tiny_unet(channels=[8, 8, 8])).multiple == 4
        assert denoiser(OwnNetwork()).multiple == 5
        assert denoiser(nn.Conv2d(3, 3, 1)).multiple == 1

    def test_t_max_is_the_whole_schedule_unless_given(self):
        assert denoiser().t_max == 100
        assert denoiser(t_max=30).spec()["t_max"] == 30

    @pytest.mark.parametrize("t_max", [0, 101])
    def test_t_max_outside_the_schedule(self, t_max):
        with pytest.raises(ValueError, match=f"t_max: got {t_max}; expected 1 to 100"):
            denoiser(t_max=t_max)

    def test_unknown_prediction_type(self):
        with pytest.raises(ValueError, match="'flow'"):
            denoiser(prediction_type="flow")

    def test_spec_is_plain(self):
        spec = denoiser(t_max=30, prediction_type="v_prediction").spec()
        assert json.loads(json.dumps(spec)) == spec
        assert {name: spec[name] for name in ("schedule", "num_train_timesteps", "prediction_type")} == {
            "schedule": "cosine",
            "num_train_timesteps": 100,
            "prediction_type": "v_prediction",
        }


class TestCheckpoint:
    def test_round_trip(self, tmp_path):
        source = denoiser(t_max=30, prediction_type="v_prediction")
        again = load_denoiser(write_checkpoint(tmp_path / "last.ckpt", source))
        assert again.spec() == source.spec()
        assert not again.training
        assert torch.equal(again(X, INDEX), source(X, INDEX))

    def test_own_network_is_built_by_its_class_path(self, tmp_path):
        net = OwnNetwork(width=6, kernel=5)
        net.init_args = {"width": 6, "kernel": 5}  # what the command line sets
        source = denoiser(net)
        assert source.spec()["net"] == {
            "class_path": f"{__name__}.OwnNetwork",
            "init_args": {"width": 6, "kernel": 5},
        }
        path = write_checkpoint(tmp_path / "last.ckpt", source)
        with pytest.raises(UserError, match=f"names the class {__name__}.OwnNetwork.*add --trust_classes"):
            load_denoiser(path)
        assert type(load_denoiser(path, OwnNetwork).net) is OwnNetwork
        trust_classes(OwnNetwork)
        again = load_denoiser(path)
        assert type(again.net) is OwnNetwork
        assert again.spec() == source.spec()
        assert torch.equal(again(X, INDEX), source(X, INDEX))


class TestFolder:
    def check(self, path, unet):
        ours = load_denoiser(path)
        assert torch.equal(ours.net(X, INDEX), unet(X, INDEX).sample)
        return ours

    def test_gives_the_network_of_diffusers(self, folder):
        path, unet = folder
        ours = self.check(path, unet)
        assert ours.schedule == Schedule("linear", 1000)
        assert (ours.prediction_type, ours.t_max) == ("v_prediction", 1000)

    def test_cosine(self, folder):
        path, unet = folder
        edit(path / "scheduler" / "scheduler_config.json", beta_schedule="squaredcos_cap_v2", num_train_timesteps=50)
        assert self.check(path, unet).schedule == Schedule("cosine", 50)

    def test_early_public_form(self, folder, tmp_path):
        # Everything in one place, a .bin of weights, and the first names of the attention's weights.
        path, unet = folder
        early = tmp_path / "early"
        early.mkdir()
        names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        weights = {}
        for name, value in unet.state_dict().items():
            for new, old in names.items():
                name = re.sub(rf"\.{re.escape(new)}\.", f".{old}.", name)
            weights[name] = value
        assert sum(".query." in name for name in weights) == 8
        torch.save(weights, early / "diffusion_pytorch_model.bin")
        (path / "unet" / "config.json").rename(early / "config.json")
        (path / "scheduler" / "scheduler_config.json").rename(early / "scheduler_config.json")
        self.check(early, UNet2DModel.from_pretrained(early, use_safetensors=False).eval())
        self.check(early, unet)

    def test_weights_in_shards(self, folder):
        path, unet = folder
        whole = path / "unet" / "diffusion_pytorch_model.safetensors"
        weights = list(load_file(whole).items())
        whole.unlink()
        for n, part in enumerate((weights[:20], weights[20:])):
            save_file(dict(part), path / "unet" / f"diffusion_pytorch_model-0000{n + 1}-of-00002.safetensors")
        self.check(path, unet)

    @pytest.mark.parametrize(
        ("missing", "said"),
        [
            ("unet/config.json", "lacks unet/config.json; expected a diffusers folder"),
            ("scheduler/scheduler_config.json", "lacks scheduler/scheduler_config.json"),
            ("unet/diffusion_pytorch_model.safetensors", "lacks unet/diffusion_pytorch_model.safetensors"),
        ],
    )
    def test_lacking_a_file(self, folder, missing, said):
        (folder[0] / missing).unlink()
        with pytest.raises(ValueError, match=said):
            load_denoiser(folder[0])

    @pytest.mark.parametrize("content", ['{"beta_schedule": "lin', "[]", "\x00"])
    def test_a_damaged_file(self, folder, content):
        damaged = folder[0] / "scheduler" / "scheduler_config.json"
        damaged.write_text(content)
        with pytest.raises(UserError, match=f"checkpoint file {damaged} "):
            load_denoiser(folder[0])

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            (
                {"beta_schedule": "laplace"},
                "'laplace'; expected one of linear, scaled_linear, sigmoid, squaredcos_cap_v2",
            ),
            ({"beta_schedule": ["linear"]}, "has the schedule .*expected one of"),
            ({"rescale_betas_zero_snr": True}, "rescaled to zero SNR"),
            ({"prediction_type": "flow"}, "'flow'"),
            ({"num_train_timesteps": 10**9}, "num_train_timesteps: Input should be less than or equal to 100000"),
            ({"num_train_timesteps": "1000"}, "num_train_timesteps: Input should be a valid integer"),
            ({"beta_end": 1.5}, "betas from 0.0001 to 1.5; expected more than 0 and less than 1"),
            ({"beta_start": None}, "beta_start: Input should be a valid number"),
            ({"beta_end": 0.9}, "leaves a signal of 4.9e-324"),
            ({"trained_betas": [0.1] * 3}, "trained_betas: got 3; expected one per step, 1000"),
            ({"trained_betas": [0.1, "x"]}, "trained_betas: 1: Input should be a valid number"),
        ],
    )
    def test_unknown_schedule(self, folder, changes, said):
        edit(folder[0] / "scheduler" / "scheduler_config.json", **changes)
        with pytest.raises(ValueError, match=said):
            load_denoiser(folder[0])

    @pytest.mark.parametrize(
        "changes",
        [
            {"num_train_timesteps": 500},  # betas from 1e-4 to 0.02 in 500 steps
            {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
            {"beta_schedule": "sigmoid", "num_train_timesteps": 200},
            {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 300},
            {"trained_betas": [0.001 * (n + 1) for n in range(20)], "num_train_timesteps": 20},
            {"beta_end": 0.012},
        ],
    )
    @pytest.mark.parametrize("form", ["folder", "safetensors", "ckpt"])
    def test_schedules_of_others(self, folder, tmp_path, changes, form):
        edit(folder[0] / "scheduler" / "scheduler_config.json", prediction_type="sample", **changes)
        theirs = DDPMScheduler.from_pretrained(folder[0] / "scheduler")
        ours = load_denoiser(folder[0])
        if form == "ckpt":
            again = load_denoiser(write_checkpoint(tmp_path / "x.ckpt", ours))
        else:
            export_denoiser(ours, tmp_path / ("x.safetensors" if form == "safetensors" else "x"))
            again = load_denoiser(tmp_path / ("x.safetensors" if form == "safetensors" else "x"))
        for one in (ours, again):
            assert one.prediction_type == "sample"
            assert one.schedule.alpha_bars.numpy() == pytest.approx(theirs.alphas_cumprod.numpy(), rel=1e-5, abs=1e-7)
        assert again.schedule == ours.schedule
        if form == "folder":
            exported = DDPMPipeline.from_pretrained(tmp_path / "x").scheduler
            assert torch.allclose(exported.alphas_cumprod, theirs.alphas_cumprod, rtol=1e-5, atol=1e-7)

    def test_a_sample_is_the_networks_output(self, folder):
        edit(folder[0] / "scheduler" / "scheduler_config.json", prediction_type="sample")
        ours, theirs = load_denoiser(folder[0]), folder[1]
        with torch.no_grad():
            predicted = theirs(X, INDEX).sample.clamp(-1, 1)
        assert torch.allclose(ours(X, INDEX), predicted, atol=1e-5)

    @pytest.mark.parametrize("place", ["inside", "around", "nowhere"])
    def test_checkpoint_of_the_training_script(self, folder, tmp_path, capsys, place):
        """``unet/`` and ``unet_ema/`` next to each other, as ``train_unconditional.py --use_ema`` leaves them."""
        root, unet = folder
        run = tmp_path / "run"
        checkpoint = run / "checkpoint-50"
        checkpoint.mkdir(parents=True)
        unet.save_pretrained(checkpoint / "unet")
        average = EMAModel(unet.parameters(), model_cls=UNet2DModel, model_config=unet.config)
        average.shadow_params = [value.detach() * 0.5 for value in unet.parameters()]
        average.save_pretrained(checkpoint / "unet_ema")
        edit(root / "scheduler" / "scheduler_config.json", num_train_timesteps=700)
        if place != "nowhere":
            (root / "scheduler").rename((checkpoint if place == "inside" else run) / "scheduler")
        ours = load_denoiser(checkpoint)
        said = capsys.readouterr().err
        assert "moving average in unet_ema/" in said
        assert ("no scheduler/scheduler_config.json; took the default" in said) == (place == "nowhere")
        assert ours.schedule.num_train_timesteps == (1000 if place == "nowhere" else 700)
        assert torch.equal(ours.net.conv_in.weight, unet.conv_in.weight * 0.5)
        plain = load_denoiser(checkpoint / "unet")
        assert torch.equal(plain.net.conv_in.weight, unet.conv_in.weight)
        assert "average" not in capsys.readouterr().err

    @pytest.mark.parametrize("changes", [{"num_class_embeds": 10}, {"class_embed_type": "timestep"}])
    def test_class_conditional(self, folder, changes):
        edit(folder[0] / "unet" / "config.json", **changes)
        with pytest.raises(UserError, match=f"conditional on a class .{next(iter(changes))}"):
            load_denoiser(folder[0])

    def test_latent_diffusion_is_refused(self, folder):
        edit(folder[0] / "unet" / "config.json", in_channels=4, out_channels=4)
        with pytest.raises(ValueError, match="has 4 input and 4 output channels"):
            load_denoiser(folder[0])

    def test_unknown_argument_of_a_network(self, folder):
        edit(folder[0] / "unet" / "config.json", of_the_future=1)
        with pytest.raises(ValueError, match="of_the_future"):
            load_denoiser(folder[0])


class TestErrors:
    """Each is one line that names the file."""

    def check(self, path, said):
        with pytest.raises(UserError, match=said) as caught:
            load_denoiser(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400

    def test_missing(self, tmp_path):
        self.check(
            tmp_path / "none.ckpt", "does not exist; expected a .ckpt or .safetensors file, or a diffusers folder"
        )

    @pytest.mark.parametrize("name", ["notes.ckpt", "notes.txt", "notes.pth"])
    def test_text(self, tmp_path, name):
        (tmp_path / name).write_text("learning rate 8e-5\n")
        self.check(tmp_path / name, "cannot be read")

    @pytest.mark.parametrize("content", [b"", b"not tensors at all"])
    def test_no_safetensors(self, tmp_path, content):
        (tmp_path / "x.safetensors").write_bytes(content)
        self.check(tmp_path / "x.safetensors", "is not a safetensors file")

    def test_code_in_a_checkpoint_is_not_run(self, tmp_path):
        torch.save({"state_dict": NotANetwork()}, tmp_path / "x.ckpt")
        self.check(tmp_path / "x.ckpt", "cannot be read")

    def test_other_kind(self, tmp_path):
        self.check(write_checkpoint(tmp_path / "x.ckpt", denoiser(), kind="rrdb"), "contains a rrdb; expected a DDPM")

    def test_restorers_weights(self, tmp_path):
        torch.save({"params_ema": {"conv_first.weight": torch.zeros(2)}}, tmp_path / "x.pth")
        self.check(tmp_path / "x.pth", "contains no DDPM, but weights such as 'params_ema'")
        torch.save({"state_dict": {"conv_first.weight": torch.zeros(2)}}, tmp_path / "x.ckpt")
        self.check(tmp_path / "x.ckpt", "no DDPM, but weights such as 'conv_first.weight'")
        save_file({"conv_first.weight": torch.zeros(2)}, tmp_path / "x.safetensors")
        self.check(tmp_path / "x.safetensors", "no DDPM, but weights such as 'conv_first.weight'")

    def test_a_list(self, tmp_path):
        torch.save([1, 2], tmp_path / "x.ckpt")
        self.check(tmp_path / "x.ckpt", "no DDPM")

    def test_weights_that_do_not_fit(self, tmp_path):
        spec = denoiser(tiny_unet(channels=[8, 8])).spec()
        path = write_checkpoint(tmp_path / "x.ckpt", denoiser(), net=spec["net"])
        self.check(path, r"contains weights that do not fit its network \(Unexpected key.*down_blocks.1.*conv_shortcut")

    def test_weights_that_are_not_there(self, tmp_path):
        source = denoiser()
        torch.save({"state_dict": {}, "ddpm_pairs": source.spec()}, tmp_path / "x.ckpt")
        self.check(tmp_path / "x.ckpt", r"do not fit its network \(Missing key")

    @pytest.mark.parametrize(
        ("spec", "said"),
        [
            ({"class_path": "no_such_package.Net", "init_args": {}}, "no_such_package.Net cannot be imported"),
            ({"class_path": f"{__name__}.Nothing", "init_args": {}}, "Nothing cannot be imported"),
            ({"class_path": f"{__name__}.NotANetwork", "init_args": {}}, "NotANetwork is not a torch.nn.Module"),
            (
                {"class_path": f"{__name__}.OwnNetwork", "init_args": {"depth": 2}},
                "'depth'.*check if its class has changed",
            ),
        ],
    )
    def test_network_that_cannot_be_built(self, tmp_path, spec, said):
        trust_classes(__name__, "no_such_package")
        with pytest.raises(UserError, match=said):
            load_denoiser(write_checkpoint(tmp_path / "x.ckpt", denoiser(), net=spec))

    def test_a_bug_in_a_network_stays_one(self, tmp_path):
        trust_classes(__name__)
        spec = {"class_path": f"{__name__}.OwnNetwork", "init_args": {"width": "4"}}
        with pytest.raises(TypeError):
            load_denoiser(write_checkpoint(tmp_path / "x.ckpt", denoiser(), net=spec))

    def test_unknown_schedule(self, tmp_path):
        with pytest.raises(ValueError, match="schedule: got 'karras'"):
            load_denoiser(write_checkpoint(tmp_path / "x.ckpt", denoiser(), schedule="karras"))
