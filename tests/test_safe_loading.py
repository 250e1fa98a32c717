"""Untrusted files run no code: neither pickles under any file name nor class paths in descriptions."""

import json
import pickle
import zipfile

import pytest
import torch
import yaml
from PIL import Image
from tiny_ddpm import save_folder, tiny_denoiser

from ddpm_pairs.cli.main import main
from ddpm_pairs.degradations.by_name import build
from ddpm_pairs.diffusion import load_denoiser
from ddpm_pairs.pairset.folder import read_run
from ddpm_pairs.restoration.weights import load_restorer
from ddpm_pairs.trust import trust_classes


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def exploded(tmp_path):
    """The file that must not appear."""
    path = tmp_path / "exploded"
    pickle.loads(pickle.dumps(Bomb(path)))
    assert path.exists()  # the bomb works
    path.unlink()
    yield path
    assert not path.exists()


def zipped(path, bomb):
    torch.save({"state_dict": {}, "ddpm_pairs": bomb}, path)


def bare(path, bomb):
    path.write_bytes(pickle.dumps(bomb, protocol=2))


def old_tar(path, bomb):
    torch.save({"state_dict": bomb}, path, _use_new_zipfile_serialization=False)


def with_a_hidden_one(path, bomb):
    """A valid checkpoint except for one value."""
    denoiser = tiny_denoiser()
    weights = {f"net.{name}": value for name, value in denoiser.net.state_dict().items()}
    torch.save({"ddpm_pairs": denoiser.spec(), "state_dict": weights, "hyper_parameters": {"x": bomb}}, path)


WAYS = [zipped, bare, old_tar, with_a_hidden_one]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("suffix", [".ckpt", ".pth", ".pt", ".bin", ".safetensors", ""])
def test_checkpoints(tmp_path, exploded, way, suffix):
    path = tmp_path / f"bomb{suffix}"
    way(path, Bomb(exploded))
    for load in (load_denoiser, load_restorer):
        with pytest.raises(ValueError, match="checkpoint") as caught:
            load(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("way", WAYS)
def test_diffusers_folder(tmp_path, exploded, way):
    folder = tmp_path / "folder"
    save_folder(tiny_denoiser(), folder)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    way(folder / "unet" / "diffusion_pytorch_model.bin", Bomb(exploded))
    with pytest.raises(ValueError, match="cannot be read"):
        load_denoiser(folder)


def test_safetensors_hold_no_pickles(tmp_path, exploded):
    with zipfile.ZipFile(tmp_path / "x.safetensors", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb(exploded)))
    with pytest.raises(ValueError, match="is not a safetensors file"):
        load_denoiser(tmp_path / "x.safetensors")


VERBS = {
    "predict": ["predict", "--config", "pairs_natural.yaml", "--data.hq_dir", "hq", "--ckpt_path"],
    "resume": ["fit", "--config", "ddpm_natural.yaml", "--data.lq_dir", "hq", "--trainer.accelerator", "cpu"]
    + ["--ckpt_path"],
    "export": ["export"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_end_with_a_line(tmp_path, exploded, photos, monkeypatch, capsys, verb):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hq").mkdir()
    Image.fromarray(photos[0]).save("hq/a.png")
    with_a_hidden_one(tmp_path / "bomb.ckpt", Bomb(exploded))
    words = [*VERBS[verb], "bomb.ckpt", *(["out.safetensors"] if verb == "export" else ["--output_dir", "out"])]
    assert main(words) == 2
    assert "bomb.ckpt" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", ["os.system", "subprocess.Popen", "builtins.exec", "pathlib.Path"])
def test_descriptions_build_what_they_are_for_alone(tmp_path, path):
    harmful = {"class_path": path, "init_args": {"command": f"touch {tmp_path / 'exploded'}"}}
    with pytest.raises(ValueError, match="is not a degradation"):
        build({"name": "x", **harmful}, 4)
    chain = {"class_path": "ddpm_pairs.degradations.Chain", "init_args": {"operations": [harmful], "scale": 4}}
    with pytest.raises(ValueError, match="is not a degradation"):
        build({"name": "x", **chain}, 4)
    torch.save({"ddpm_pairs": tiny_denoiser().spec() | {"net": harmful}, "state_dict": {}}, tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match=f"names the class {path}"):
        load_denoiser(tmp_path / "x.ckpt")
    trust_classes(path)
    with pytest.raises(ValueError, match=r"is not a torch\.nn\.Module"):
        load_denoiser(tmp_path / "x.ckpt")
    assert not (tmp_path / "exploded").exists()


def test_run_yaml_makes_no_objects(tmp_path, exploded):
    tag = f"!!python/object/apply:builtins.open [{json.dumps(str(exploded))}, w]"
    (tmp_path / "run.yaml").write_text(f"settings: {tag}\nmachine: 1\nplaces: 2\n")
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load((tmp_path / "run.yaml").read_text())
    with pytest.raises(ValueError, match="does not describe a pairs folder"):
        read_run(tmp_path)
