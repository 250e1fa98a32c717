"""Sharpening or graying HQ before degradation, and the HQ grid, in the manifest, run.yaml, and remake."""

import json
from argparse import Namespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ddpm_pairs.degradations import Blur, Chain, Classical, Noise, OnHQGrid, RealESRGAN, Resize
from ddpm_pairs.degradations.ops.sharpen import unsharp_mask
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.pixels import psnr_against_hq
from ddpm_pairs.pairset.folder import read_run
from ddpm_pairs.synthesis import PairGenerator
from ddpm_pairs.synthesis.provenance import generator_from_run, run_settings
from ddpm_pairs.synthesis.remake import main, remake
from ddpm_pairs.trust import trust_classes

PREPARED = {"t_max": 0, "slots": 4, "threads": 1, "sharpen_hq": True, "gray_hq": 0.5}


def lines_of(root):
    return {one["key"]: one for one in map(json.loads, (root / "manifest.jsonl").open())}


def read(path):
    return torch.tensor(np.asarray(Image.open(path))).permute(2, 0, 1)


def remade(pairs, key):
    return main(Namespace(pairs=pairs, key=key, ckpt_path=None, degradation=None, output_dir=None))


def test_the_prepared_picture_is_the_hq_of_the_pair(hq_folder, tmp_path, predict):
    predict(PairGenerator("real_esrgan", **PREPARED), hq_folder, tmp_path / "pairs")
    predict(PairGenerator("real_esrgan", t_max=0, slots=4, threads=1), hq_folder, tmp_path / "plain")
    lines, plain = lines_of(tmp_path / "pairs"), lines_of(tmp_path / "plain")
    gray = set()
    for key, line in lines.items():
        hq, before = read(tmp_path / "pairs" / line["hq"]), read(tmp_path / "plain" / line["hq"])
        sharp = (unsharp_mask(before[None].float() / 255)[0] * 255).round().to(torch.uint8)
        if line["hq_preparation"]["gray"]:
            weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
            assert ((sharp * weights).sum(dim=0) - hq[0]).abs().max() <= 0.51 and torch.equal(hq[0], hq[2])
        else:
            assert torch.equal(hq, sharp)
        gray.add(line["hq_preparation"]["gray"])
        assert line["hq_preparation"]["sharpened"] is True
        assert line["psnr"] == psnr_against_hq(hq, read(tmp_path / "pairs" / line["lq"]))
        # the preparation has its own random numbers
        assert line["degradation"] == plain[key]["degradation"]
        assert plain[key]["hq_preparation"] == {"sharpened": False, "gray": False}
        assert remade(tmp_path / "pairs", key) == 0
    assert gray == {True, False}


def test_preparation_depends_on_no_neighbour(hq_folder, tmp_path, predict, content):
    predict(PairGenerator("bicubic", **PREPARED), hq_folder, tmp_path / "all")
    for path in sorted(hq_folder.rglob("*.png"))[1::2]:
        path.unlink()
    predict(PairGenerator("bicubic", **PREPARED), hq_folder, tmp_path / "some")
    every, some = content(tmp_path / "all"), content(tmp_path / "some")
    pictures = [name for name in some if name.endswith(".png")]
    assert len(pictures) == 8 and all(some[name] == every[name] for name in pictures)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"sharpen_hq": False}, "sharpen_hq True -> False"),
        ({"gray_hq": 0.2}, "gray_hq 0.5 -> 0.2"),
        ({"degradation": OnHQGrid("real_esrgan")}, "degradation.name real_esrgan -> on_hq_grid"),
    ],
)
def test_a_folder_prepared_otherwise_is_refused(hq_folder, tmp_path, predict, change, text):
    predict(PairGenerator("real_esrgan", **PREPARED), hq_folder, tmp_path / "pairs")
    with pytest.raises(ValueError, match=text):
        predict(PairGenerator(**{"degradation": "real_esrgan"} | PREPARED | change), hq_folder, tmp_path / "pairs")


@pytest.mark.parametrize("faces_first", [True, False])
def test_pairs_of_a_mixed_folder_are_remade_from_the_lines(hq_folder, tmp_path, predict, faces_first):
    """Pairs made on and off the HQ grid, with one degradation at two scales."""
    options = {"t_max": 0, "slots": 4, "threads": 1}
    made = [("on_hq_grid", OnHQGrid("real_esrgan")), ("real_esrgan", RealESRGAN(1))]
    first, second = made if faces_first else made[::-1]
    predict(PairGenerator(first[1], **options), hq_folder, tmp_path / "pairs")
    (tmp_path / "pairs" / "lq" / "a.png").unlink()
    predict(PairGenerator(second[1], **options), hq_folder, tmp_path / "pairs", None, {"allow_mixed": True})
    names = {key: line["degradation"]["name"] for key, line in lines_of(tmp_path / "pairs").items() if key in "ab"}
    assert names == {"a": second[0], "b": first[0]}
    assert remade(tmp_path / "pairs", "a") == 0 and remade(tmp_path / "pairs", "b") == 0


CHAIN = [Blur(["iso"], sigma=(0.5, 1)), Resize((0.3, 0.9)), Noise(gray=0.5)]


@pytest.mark.parametrize(
    ("degradation", "spec"),
    [
        (RealESRGAN(4), {"name": "real_esrgan", "class_path": "ddpm_pairs.degradations.RealESRGAN"}),
        (Classical(4, colour=True), {"name": "classical", "class_path": "ddpm_pairs.degradations.Classical"}),
        (Chain(CHAIN, 4), {"name": "chain", "class_path": "ddpm_pairs.degradations.Chain"}),
        (OnHQGrid(Chain(CHAIN, 2), 2), {"name": "on_hq_grid", "class_path": "ddpm_pairs.degradations.OnHQGrid"}),
    ],
    ids=["name", "argument", "chain", "nested"],
)
def test_run_yaml_describes_the_degradation(hq_folder, tmp_path, predict, degradation, spec):
    generator = PairGenerator(degradation, t_max=0, slots=4, threads=1)
    predict(generator, hq_folder, tmp_path / "pairs")
    run = read_run(tmp_path / "pairs")
    found = run["settings"]["degradation"]
    assert {name: found[name] for name in spec} == spec
    again = generator_from_run(run)
    assert run_settings(again, "cpu") == run["settings"]
    assert again.degradation.draw(torch.Generator().manual_seed(3)) == degradation.draw(
        torch.Generator().manual_seed(3)
    )
    assert remade(tmp_path / "pairs", "sub/c") == 0
    predict(PairGenerator(degradation, t_max=0, slots=4, threads=1), hq_folder, tmp_path / "pairs")


class Own:
    """Built in Python, with arguments that YAML can represent and one that it cannot."""

    name, scale = "own", 4

    def __init__(self, weights, limit=5.0, steps=(1, 2)):
        self.weights, self.limit, self.steps = weights, limit, steps

    def draw(self, generator):
        return {}

    def apply(self, hq, parameters):
        return hq[..., ::4, ::4]


def test_run_yaml_holds_the_plain_arguments_of_an_object(hq_folder, tmp_path, predict):
    generator = PairGenerator(Own(torch.ones(2), None), t_max=0, slots=4, threads=1)
    predict(generator, hq_folder, tmp_path / "pairs")
    spec = read_run(tmp_path / "pairs")["settings"]["degradation"]
    assert spec["init_args"] == {"limit": None, "steps": [1, 2]}
    predict(PairGenerator(Own(torch.ones(2), None), t_max=0, slots=4, threads=1), hq_folder, tmp_path / "pairs")
    with pytest.raises(UserError, match="run.yaml names the class .*Own, .* add --trust_classes"):
        remake(tmp_path / "pairs", "a")
    trust_classes(Own)
    with pytest.raises(UserError, match="Own cannot be built .*'weights'.; set its arguments"):
        remake(tmp_path / "pairs", "a")
    with pytest.raises(ValueError, match="degradation.limit None -> 5.0"):
        predict(PairGenerator(Own(torch.ones(2)), t_max=0, slots=4, threads=1), hq_folder, tmp_path / "pairs")


def test_other_arguments_of_a_chain_are_refused(hq_folder, tmp_path, predict):
    predict(PairGenerator(Chain(CHAIN, 4), t_max=0, slots=4, threads=1), hq_folder, tmp_path / "pairs")
    other = Chain([Blur(["iso"], sigma=(0.5, 2)), *CHAIN[1:]], 4)
    with pytest.raises(ValueError, match=r"degradation.operations.1.sigma \[0.5, 1.0\] -> \[0.5, 2.0\]"):
        predict(PairGenerator(other, t_max=0, slots=4, threads=1), hq_folder, tmp_path / "pairs")


def test_a_description_of_no_known_form_is_none(hq_folder, tmp_path, predict):
    predict(PairGenerator("bicubic", t_max=0, threads=1), hq_folder, tmp_path / "pairs")
    run = yaml.safe_load((tmp_path / "pairs" / "run.yaml").read_text())
    del run["format"]
    (tmp_path / "pairs" / "run.yaml").write_text(yaml.safe_dump(run))
    with pytest.raises(ValueError, match="does not describe a pairs folder"):
        remake(tmp_path / "pairs", "a")
