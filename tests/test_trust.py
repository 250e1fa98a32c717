"""Files name only trusted classes: checkpoints, exports, the run.yaml of a folder, and what these name in turn."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from tiny_ddpm import save_ckpt, save_safetensors, tiny_denoiser

from ddpm_pairs.cli.main import main
from ddpm_pairs.degradations.by_name import build, by_name
from ddpm_pairs.diffusion import load_denoiser
from ddpm_pairs.restoration.weights import load_restorer
from ddpm_pairs.trust import classes_named_by, trust_classes

EVIL = """
from pathlib import Path

from torch import nn

Path("code_ran").touch()


class Net(nn.Module):
    def __init__(self, width=1):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, x_t, timestep):
        return self.layer(x_t)


class Camera:
    name, scale = "camera", 4

    def draw(self, generator):
        return {}

    def apply(self, hq, parameters):
        return hq[..., ::4, ::4].mul(255).round() / 255
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder with HQ/ and a module that leaves a file when it is imported."""
    (tmp_path / "evil_module.py").write_text(EVIL)
    (tmp_path / "HQ").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "HQ" / "a.png")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "evil_module", raising=False)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("evil_module", None)


def described(**changes):
    return json.dumps({**tiny_denoiser().spec(), **changes})


def one_line(capsys):
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ddpm-pairs")]
    return said


@pytest.mark.parametrize(
    "path",
    ["evil_module.Net", "torch.nn.Linear", "torchmetrics.image.fid.NoTrainInceptionV3", "ddpm_pairs.study.TStudy"],
)
@pytest.mark.parametrize("verb", ["export", "preview"])
def test_networks(capsys, path, verb):
    net = {"class_path": path, "init_args": {"in_features": 10**9, "out_features": 10**9}}
    save_file({"a": torch.zeros(1)}, "x.safetensors", {"ddpm_pairs": described(net=net)})
    words = {
        "export": ["export", "x.safetensors", "y.safetensors"],
        "preview": ["preview", "--degradation", "x.safetensors", "--data.hq_dir", "HQ"],
    }
    assert main(words[verb]) == 2
    assert f"names the class {path}, which is not part of ddpm_pairs" in one_line(capsys)
    assert not Path("code_ran").exists()


def test_an_option_trusts_a_module_for_one_network():
    net = {"class_path": "evil_module.Net", "init_args": {"width": 2}}
    weights = {"layer.weight": torch.zeros(3, 3, 1, 1), "layer.bias": torch.zeros(3)}
    save_file(weights, "x.safetensors", {"ddpm_pairs": described(net=net)})
    assert main(["export", "x.safetensors", "y.safetensors", "--trust_classes", "other, evil_module.Net"]) == 0
    assert Path("code_ran").exists()
    assert load_denoiser("y.safetensors").net.init_args == {"width": 2}


def test_names_are_whole_parts_of_a_path():
    trust_classes("evil", "evil_module.Ne", "evil_module.Net.x")
    save_file({"a": torch.zeros(1)}, "x.safetensors", {"ddpm_pairs": described(net={"class_path": "evil_module.Net"})})
    with pytest.raises(ValueError, match="names the class evil_module.Net"):
        load_denoiser("x.safetensors")


@pytest.mark.parametrize(
    "spec",
    [
        {"class_path": "evil_module.Camera"},
        {"class_path": "ddpm_pairs.degradations.OnHQGrid", "init_args": {"degradation": "evil_module.Camera"}},
        {"class_path": "ddpm_pairs.degradations.OnHQGrid", "init_args": {"degradation": "chain.yaml"}},
        {
            "class_path": "ddpm_pairs.degradations.Chain",
            "init_args": {"operations": [{"class_path": "evil_module.Camera"}]},
        },
        {"class_path": "ddpm_pairs.trust.evil_module.Camera"},
        {"class_path": "ddpm_pairs.__main__.main"},
        {"class_path": "ddpm_pairs.degradations.base.Degradation"},
    ],
)
def test_descriptions_of_a_folder(spec):
    Path("chain.yaml").write_text("class_path: evil_module.Camera\n")
    with classes_named_by("run.yaml"), pytest.raises(ValueError, match="trust|cannot be imported|not a degradation"):
        build(spec)
    assert not Path("code_ran").exists()
    assert by_name("evil_module.Camera").name == "camera"  # the user's own words are enough


def test_remake_builds_what_is_trusted(capsys):
    quiet = ["--data.num_workers", "0", "--trainer.accelerator", "cpu", "--output_dir", "pairs"]
    words = ["--model.t_max", "0", "--model.degradation", "evil_module.Camera", "--data.hq_dir", "HQ"]
    assert main(["predict", "--config", "pairs_natural.yaml", *words, *quiet]) == 0
    sys.modules.pop("evil_module")
    Path("code_ran").unlink()
    capsys.readouterr()
    assert main(["remake", "pairs", "a"]) == 2
    assert "run.yaml names the class evil_module.Camera" in one_line(capsys)
    assert not Path("code_ran").exists()
    assert main(["remake", "pairs", "a", "--trust_classes", "evil_module"]) == 0
    run = yaml.safe_load(Path("pairs/run.yaml").read_text())
    for path, value, said in (
        (("settings", "degradation", "init_args"), None, "does not fully describe"),
        (("settings", "device"), "mps", "on the device mps"),
    ):
        changed = json.loads(json.dumps(run))
        *inner, last = path
        part = changed
        for name in inner:
            part = part[name]
        part[last] = value
        Path("pairs/run.yaml").write_text(yaml.safe_dump(changed))
        capsys.readouterr()
        assert main(["remake", "pairs", "a", "--trust_classes", "evil_module"]) == 2
        assert said in one_line(capsys)


@pytest.mark.parametrize(
    "parameters",
    [{}, {"blur": 5}, {"blur": None, "resize": None}, {"operations": [1]}],
)
def test_parameters_of_a_manifest_that_cannot_be_applied(capsys, parameters):
    quiet = ["--data.num_workers", "0", "--trainer.accelerator", "cpu", "--output_dir", "pairs"]
    words = ["--model.t_max", "0", "--model.degradation", "classical", "--data.hq_dir", "HQ"]
    assert main(["predict", "--config", "pairs_natural.yaml", *words, *quiet]) == 0
    record = json.loads(Path("pairs/manifest.jsonl").read_text())
    record["degradation"]["parameters"] = parameters
    Path("pairs/manifest.jsonl").write_text(json.dumps(record) + "\n")
    capsys.readouterr()
    assert main(["remake", "pairs", "a"]) == 2
    assert "its degradation is not what its seed draws" in one_line(capsys)


# Descriptions of weights


def of(**arguments):
    return {"net": {"class_path": "diffusers.UNet2DModel", "init_args": arguments}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 5000 + "]" * 5000, "recursion limit"),
        ("{", "unusable description"),
        ('{"kind": "ddpm"}', "net: Field required"),
        ("[]", "unusable description"),
        ('{"kind": 5}', "kind: Input should be a valid string"),
        ('{"kind": "\\u001b[31m"}', "kind: String should match pattern"),
        (described(schedule=None), "schedule: Input should be a valid string"),
        (described(num_train_timesteps=10**400), "num_train_timesteps"),
        (described(t_max=float("nan")), "unusable description"),
        (described(x="a" * 5_000_000), "unusable description"),
        (described(net=[]), "net: "),
        (described(net={"class_path": "a b"}), "net: class_path"),
        (described(**of(block_out_channels=[10**9, 10**9])), "cannot be built"),
        (described(**of(layers_per_block=10**9)), "cannot be built"),
        (described(**of(block_out_channels="ab")), "cannot be built"),
        (described(**of(norm_eps="x")), "cannot be built"),
        (described(**of(num_class_embeds=4)), "conditional on a class"),
    ],
)
def test_descriptions_end_in_one_line(text, said):
    save_file(tiny_denoiser().net.state_dict(), "x.safetensors", {"ddpm_pairs": text})
    with pytest.raises(ValueError, match=said) as caught:
        load_denoiser("x.safetensors")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    if "kind" not in text[:9]:
        with pytest.raises(ValueError, match="x.safetensors"):
            load_restorer("x.safetensors")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"state_dict": [1]}, "contains a list as its weights"),
        ({}, "Missing key|not fit|contains 'ddpm_pairs'"),
        ({"state_dict": {1: torch.zeros(1)}}, "Missing key"),
        ({"state_dict": {"net.x": "y"}}, "contains 'x', a str"),
        ({"state_dict": {"net.x": torch.zeros(2, 2).to_sparse()}}, "not a tensor of plain numbers"),
        ({"ddpm_pairs": [1], "state_dict": {}}, "unusable description"),
        ({"ddpm_pairs": torch.zeros(1), "state_dict": {}}, "unusable description"),
    ],
)
def test_pickles_end_in_one_line(content, said):
    torch.save({"ddpm_pairs": tiny_denoiser().spec(), **content}, "x.ckpt")
    with pytest.raises(ValueError, match=said) as caught:
        load_denoiser("x.ckpt")
    assert "\n" not in str(caught.value)


def test_old_descriptions_load():
    denoiser = tiny_denoiser()
    assert set(denoiser.spec()) == {"kind", "net", "schedule", "num_train_timesteps", "prediction_type", "t_max"}
    for path in (save_ckpt(denoiser, "x.ckpt"), save_safetensors(denoiser, "x.safetensors")):
        assert load_denoiser(path).spec() == denoiser.spec()
