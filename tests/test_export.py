"""Exports: what is written opens again, here and in diffusers, and gives the same pictures."""

import json
from argparse import Namespace

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from ddpm_pairs import export
from ddpm_pairs.cli import main as cli
from ddpm_pairs.diffusion import Denoiser, Schedule, UNet, load_denoiser
from ddpm_pairs.export import export_denoiser

X = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
INDEX = torch.tensor([3, 70])


class OwnNetwork(nn.Module):
    """Two layers that share their weights, and a buffer of whole numbers."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.second.weight = self.first.weight
        self.register_buffer("steps", torch.tensor(70000))

    def forward(self, x_t, timestep):
        return self.second(self.first(x_t))


def denoiser(schedule="cosine", steps=100, net=None, **options):
    torch.manual_seed(0)
    net = net or UNet(channels=[8, 16], layers_per_block=1, attention_levels=[1], head_dim=8, norm_groups=4)
    return Denoiser(net, Schedule(schedule, steps), **options).eval()


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint as training writes it, and its denoiser; weights lie in memory as training leaves them."""
    source = denoiser(t_max=30, prediction_type="v_prediction")
    source.net.to(memory_format=torch.channels_last)
    state = {f"net.{name}": value for name, value in source.net.state_dict().items()}
    torch.save({"state_dict": state, "ddpm_pairs": source.spec()}, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt", source


def same(ours, reference, tolerance=0.0):
    assert {name: value for name, value in ours.spec().items() if name != "net"} == {
        name: value for name, value in reference.spec().items() if name != "net"
    }
    assert ours.spec()["net"] == reference.spec()["net"]
    assert all(weight.dtype == torch.float32 for weight in ours.parameters())
    torch.testing.assert_close(ours(X, INDEX), reference(X, INDEX), atol=tolerance, rtol=0)


class TestCommand:
    def test_safetensors(self, checkpoint, tmp_path, capsys):
        path, source = checkpoint
        assert cli.main(["export", str(path), str(tmp_path / "made" / "x.safetensors")]) == 0
        assert capsys.readouterr().out == f"wrote {tmp_path / 'made' / 'x.safetensors'}\n"
        same(load_denoiser(tmp_path / "made" / "x.safetensors"), source, 1e-5)

    def test_folder_of_half_precision(self, checkpoint, tmp_path):
        path, source = checkpoint
        assert cli.main(["export", str(path), str(tmp_path / "x"), "--half"]) == 0
        weights = load_file(tmp_path / "x" / "unet" / "diffusion_pytorch_model.safetensors")
        assert {value.dtype for value in weights.values()} == {torch.float16}
        same(load_denoiser(tmp_path / "x"), source, 5e-3)

    def test_an_export_is_exported_again(self, checkpoint, tmp_path):
        words = [str(path) for path in (checkpoint[0], tmp_path / "a", tmp_path / "b.safetensors", tmp_path / "c")]
        for source, out in zip(words[:-1], words[1:], strict=True):
            assert cli.main(["export", source, out]) == 0
        first, last = (load_file(tmp_path / name / "unet" / "diffusion_pytorch_model.safetensors") for name in "ac")
        assert all(torch.equal(first[name], last[name]) for name in first)
        same(load_denoiser(tmp_path / "c"), checkpoint[1], 1e-5)

    @pytest.mark.parametrize(
        ("out", "said"),
        [
            ("x.pth", "x.pth for a DDPM; expected a name ending in .safetensors, or without suffix"),
            ("x.onnx", "x.onnx; expected a name ending in .safetensors, in .pth (for a restorer), or without suffix"),
            ("last.ckpt", "last.ckpt; expected a name ending in .safetensors"),
            ("there", "there already exists"),
            ("there.safetensors", "there.safetensors already exists"),
        ],
    )
    def test_out_that_cannot_be_written(self, checkpoint, tmp_path, capsys, out, said):
        (tmp_path / "there").mkdir()
        (tmp_path / "there.safetensors").write_text("kept")
        before = sorted(tmp_path.iterdir())
        assert cli.main(["export", str(checkpoint[0]), str(tmp_path / out)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("ddpm-pairs: error: ")
        assert error.count("\n") == 1
        assert said in error
        assert sorted(tmp_path.iterdir()) == before
        assert (tmp_path / "there.safetensors").read_text() == "kept"

    def test_missing_checkpoint(self, tmp_path):
        with pytest.raises(ValueError, match="checkpoint nowhere.ckpt does not exist"):
            export.main(Namespace(ckpt="nowhere.ckpt", out=tmp_path / "x", half=False))
        assert list(tmp_path.iterdir()) == []


class TestSafetensors:
    def test_metadata_explain_the_file(self, tmp_path):
        source = denoiser(t_max=30)
        export_denoiser(source, tmp_path / "x.safetensors", metadata={"license": "CC0-1.0"})
        with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
            metadata = file.metadata()
        assert metadata["license"] == "CC0-1.0"
        assert json.loads(metadata["ddpm_pairs"]) == source.spec()

    def test_half_is_half_as_large_and_loads_as_float32(self, tmp_path):
        source = denoiser()
        export_denoiser(source, tmp_path / "full.safetensors")
        export_denoiser(source, tmp_path / "half.safetensors", half=True)
        sizes = [sum(v.nbytes for v in load_file(tmp_path / f"{n}.safetensors").values()) for n in ("full", "half")]
        assert sizes[0] == 2 * sizes[1]
        same(load_denoiser(tmp_path / "full.safetensors"), source, 1e-5)
        same(load_denoiser(tmp_path / "half.safetensors"), source, 5e-3)
        assert {weight.dtype for weight in source.parameters()} == {torch.float32}

    @pytest.mark.parametrize("half", [False, True])
    def test_own_network(self, tmp_path, half):
        source = denoiser(net=OwnNetwork())
        export_denoiser(source, tmp_path / "x.safetensors", half=half)
        again = load_denoiser(tmp_path / "x.safetensors", OwnNetwork)
        assert type(again.net) is OwnNetwork
        assert again.net.steps == 70000  # beyond float16
        torch.testing.assert_close(again(X, INDEX), source(X, INDEX), atol=5e-3, rtol=0)


class TestFolder:
    @pytest.mark.parametrize("schedule", ["linear", "cosine", "sigmoid"])
    @pytest.mark.parametrize("steps", [1000, 300])
    def test_opens_in_diffusers_and_runs(self, tmp_path, schedule, steps):
        source = denoiser(schedule, steps, prediction_type="v_prediction", t_max=250)
        export_denoiser(source, tmp_path / "x")
        pipeline = DDPMPipeline.from_pretrained(tmp_path / "x")
        assert torch.equal(pipeline.unet(X, INDEX).sample, source.net(X, INDEX))
        scheduler = pipeline.scheduler
        assert type(scheduler) is DDPMScheduler
        assert (scheduler.config.prediction_type, scheduler.config.clip_sample) == ("v_prediction", True)
        torch.testing.assert_close(
            scheduler.alphas_cumprod, Schedule(schedule, steps).alpha_bars.float(), rtol=2e-4, atol=1e-7
        )
        pipeline.set_progress_bar_config(disable=True)
        drawn = pipeline(num_inference_steps=2, output_type="pt", generator=torch.Generator().manual_seed(0)).images
        assert drawn.shape == (1, 3, 64, 64)
        assert torch.isfinite(drawn).all()
        same(load_denoiser(tmp_path / "x"), source, 1e-5)

    def test_a_step_of_the_pipeline_reads_the_output_as_we_do(self, tmp_path):
        source = denoiser("sigmoid", 100, prediction_type="v_prediction")
        export_denoiser(source, tmp_path / "x")
        pipeline = DDPMPipeline.from_pretrained(tmp_path / "x")
        clean = pipeline.scheduler.step(pipeline.unet(X[:1], 70).sample, 70, X[:1]).pred_original_sample
        torch.testing.assert_close(clean, source(X[:1], torch.tensor([70])), atol=1e-5, rtol=0)

    def test_schedule_and_t_max_survive_saving_by_diffusers(self, tmp_path):
        source = denoiser("sigmoid", 100, t_max=40)
        export_denoiser(source, tmp_path / "x")
        DDPMPipeline.from_pretrained(tmp_path / "x").save_pretrained(tmp_path / "again")
        same(load_denoiser(tmp_path / "again"), source, 1e-5)

    def test_files_are_those_of_a_pipeline(self, tmp_path):
        export_denoiser(denoiser(), tmp_path / "x")
        files = sorted(path.relative_to(tmp_path / "x").as_posix() for path in (tmp_path / "x").rglob("*.*"))
        assert files == [
            "model_index.json",
            "scheduler/scheduler_config.json",
            "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors",
        ]
        assert json.loads((tmp_path / "x" / "unet" / "config.json").read_text())["_class_name"] == "UNet2DModel"
        plain = tmp_path / "plain"
        plain.mkdir()
        assert (tmp_path / "x").stat().st_mode == plain.stat().st_mode

    def test_size_of_a_deep_network_is_its_multiple(self, tmp_path):
        net = UNet(channels=[4] * 8, layers_per_block=1, attention_levels=[], norm_groups=4)
        export_denoiser(denoiser(net=net), tmp_path / "x")
        assert DDPMPipeline.from_pretrained(tmp_path / "x").unet.config.sample_size == 128

    def test_other_networks_cannot(self, tmp_path):
        with pytest.raises(ValueError, match="OwnNetwork cannot be written as a diffusers folder"):
            export_denoiser(denoiser(net=OwnNetwork()), tmp_path / "x")
        with pytest.raises(ValueError, match="a diffusers folder cannot store metadata"):
            export_denoiser(denoiser(), tmp_path / "x", metadata={"license": "CC0-1.0"})
        assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_write_that_failed(tmp_path):
    source = denoiser(net=OwnNetwork())
    source.net.init_args = {"width": object()}  # nothing that JSON can hold
    with pytest.raises(TypeError):
        export_denoiser(source, tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []
