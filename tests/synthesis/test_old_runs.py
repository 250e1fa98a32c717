"""Pairs folders of version 0.1, in ``begun_by_0.1``: read, remade, and resumed if the pairs would be the same."""

import json
import shutil
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny_ddpm import tiny_denoiser

from ddpm_pairs.data import HighQualityImages
from ddpm_pairs.degradations import BSRGAN, Blur, Chain, ClassicalFaces, Jpeg, OnHQGrid
from ddpm_pairs.degradations.base import spec_of
from ddpm_pairs.errors import UserError
from ddpm_pairs.images.decode import decode_picture
from ddpm_pairs.pairset.folder import read_run
from ddpm_pairs.synthesis import PairGenerator, PairWriter
from ddpm_pairs.synthesis.old_runs import modern_record, modern_run
from ddpm_pairs.synthesis.remake import main, remake
from ddpm_pairs.tensors import seed_of

OLD = Path(__file__).parent / "begun_by_0.1"


def lines_of(root):
    return [json.loads(line) for line in (root / "manifest.jsonl").read_text().splitlines()]


NAMES = [
    pytest.param(path.name, marks=pytest.mark.slow) if path.name == "walked_x1_faces_fp32" else path.name
    for path in sorted(OLD.iterdir())
]


@pytest.mark.parametrize("name", NAMES)
def test_old_pairs_are_remade(name):
    """Equal bit for bit on the machine that made them; another kind of CPU rounds a few pixels differently."""
    for line in lines_of(OLD / name):
        pair = remake(OLD / name, line["key"])
        before = decode_picture(OLD / name / line["lq"]).astype(int)
        gap = np.abs(pair.lq.permute(1, 2, 0).numpy() - before)
        assert gap.mean() < 0.05 and gap.max() <= 4
        same = ("key", "source", "source_sha256", "seed", "t", "logsnr", "sampler", "num_steps", "evaluations", "scale")
        assert {field: pair.record[field] for field in same} == {field: line[field] for field in same}
        assert pair.record["psnr"] == pytest.approx(line["psnr"], abs=0.02)


def test_the_command_takes_them(capsys):
    words = {
        "pairs": OLD / "hand_x1_faces_classical",
        "key": "1",
        "ckpt_path": None,
        "degradation": None,
        "output_dir": None,
    }
    assert main(Namespace(**words)) in (0, 1)
    assert "1: " in capsys.readouterr().out


def test_a_line_gets_the_seeds_that_were_derived_from_its_key():
    line = lines_of(OLD / "walked_x2_fp32")[0]
    found = modern_record(line, True)["degradation"]
    seeds = {f"{name}_seed": seed_of(0, line["key"], name) for name in ("noise", "steps")}
    assert found == {"name": "walk", "parameters": {"t": line["t"], **seeds, "start": line["degradation"]}}
    faces = lines_of(OLD / "walked_x1_faces_fp32")[0]
    start = modern_record(faces, True)["degradation"]["parameters"]["start"]
    assert start == {"name": "on_hq_grid", "parameters": {"degradation": faces["degradation"]}}
    alone = lines_of(OLD / "hand_x1_faces_classical")[0]
    assert modern_record(alone, False)["degradation"] == alone["degradation"] | {"name": "classical_faces"}
    chain = lines_of(OLD / "hand_x1_faces_chain")[0]  # it has no preset
    assert chain["preset"] == "faces" and modern_record(chain, False)["degradation"] == chain["degradation"]
    new = {"degradation": {"name": "bicubic", "parameters": {}}}
    assert modern_record(new, True) is new


@pytest.mark.parametrize(
    ("name", "option"),
    [("bsrgan", "--model.degradation.degradation bsrgan"), ("classical", "--model.degradation classical_faces")],
)
def test_the_refusal_of_faces_names_the_option_of_today(tmp_path, name, option):
    shutil.copytree(OLD / "hand_x1_faces_classical", tmp_path / "pairs")
    run = yaml.safe_load((tmp_path / "pairs" / "run.yaml").read_text())
    run["settings"]["degradation"] = {"name": name}
    (tmp_path / "pairs" / "run.yaml").write_text(yaml.safe_dump(run))
    shutil.copytree(tmp_path / "pairs" / "hq", tmp_path / "hq")
    generator, data = PairGenerator(name, 1, t_max=0, tile=512), HighQualityImages(str(tmp_path / "hq"))
    with pytest.raises(ValueError, match=f"--config pairs.yaml {option}, or use another folder"):
        PairWriter(str(tmp_path / "pairs")).check(generator, data, "cpu")


@pytest.mark.parametrize(
    ("degradation", "scale", "preset", "expected"),
    [
        ({"name": "bsrgan"}, 2, "natural", BSRGAN(2)),
        ({"name": "bsrgan"}, 1, "faces", OnHQGrid("bsrgan")),
        ({"name": "classical"}, 1, "faces", ClassicalFaces()),
        (
            {
                "name": "classical",
                "class_path": "ddpm_pairs.degradations.classical.Classical",
                "init_args": {"scale": 1, "preset": "faces", "colour": True},
            },
            1,
            "faces",
            ClassicalFaces(colour=True),
        ),
        (
            {
                "name": "chain",
                "class_path": "ddpm_pairs.degradations.chain.Chain",
                "init_args": {
                    "scale": 4,
                    "operations": [
                        {"class_path": "ddpm_pairs.degradations.operations.Blur", "init_args": {"sigma": [1, 2]}}
                    ],
                },
            },
            4,
            "natural",
            Chain([Blur(sigma=(1, 2))], 4),
        ),
        (
            {
                "name": "chain",
                "class_path": "ddpm_pairs.degradations.chain.Chain",
                "init_args": {
                    "scale": 1,
                    "operations": [{"class_path": "ddpm_pairs.degradations.Blur", "init_args": {"sigma": [1, 2]}}],
                },
            },
            1,
            "faces",
            Chain([Blur(sigma=(1, 2))], 1),
        ),
    ],
)
def test_degradations_are_described_as_today(degradation, scale, preset, expected):
    run = yaml.safe_load((OLD / "hand_x1_faces_classical" / "run.yaml").read_text())
    run["settings"] |= {"degradation": degradation, "scale": scale, "preset": preset}
    assert modern_run(run)["settings"]["degradation"] == spec_of(expected)


def test_classes_of_others_keep_their_description():
    run = yaml.safe_load((OLD / "hand_x1_faces_classical" / "run.yaml").read_text())
    camera = {"name": "camera", "class_path": "ddpm_pairs.camera.Camera", "init_args": {"scale": 4}}
    run["settings"] |= {"degradation": camera, "scale": 4, "preset": "natural"}
    found = modern_run(run)["settings"]["degradation"]
    assert found == camera | {"class_path": "ddpm_pairs.demo.camera.Camera"}


def test_handcrafted_pairs_are_resumed_and_walked_ones_are_not(tmp_path, predict):
    hq = tmp_path / "hq"
    shutil.copytree(OLD / "hand_x1_faces_classical", tmp_path / "hand")
    shutil.copytree(tmp_path / "hand" / "hq", hq)
    shutil.copy(hq / "1.png", hq / "new.png")
    faces = {"t_max": 0, "tile": 512}
    assert predict(PairGenerator("classical_faces", **faces), hq, tmp_path / "hand")["made"] == 1
    lines = {line["key"]: line for line in lines_of(tmp_path / "hand")}
    assert list(lines) == ["1", "new"] and "preset" in lines["1"] and "preset" not in lines["new"]
    assert read_run(tmp_path / "hand")["format"] == 2
    assert remake(tmp_path / "hand", "new").record["key"] == "new"
    assert remake(tmp_path / "hand", "1").record["key"] == "1"
    with pytest.raises(ValueError, match="degradation.name classical_faces -> on_hq_grid"):
        predict(PairGenerator(OnHQGrid("bsrgan"), **faces), hq, tmp_path / "hand")

    shutil.copytree(OLD / "hand_x1_faces_chain", tmp_path / "chain")
    shutil.copytree(tmp_path / "chain" / "hq", tmp_path / "chain_hq")
    (tmp_path / "chain" / "lq" / "1.png").unlink()
    chain = Chain([Blur(kinds=["iso"], sigma=(0.4, 3.0)), Jpeg(quality=(40.0, 95.0))], 1)
    assert predict(PairGenerator(chain, **faces), tmp_path / "chain_hq", tmp_path / "chain")["made"] == 1
    before, after = lines_of(OLD / "hand_x1_faces_chain"), lines_of(tmp_path / "chain")
    assert before[0].pop("preset") == "faces" and after == before

    shutil.copytree(OLD / "walked_x2_fp32", tmp_path / "walked")
    generator = PairGenerator("bicubic", 2, t_max=40)
    generator.add_walk(tiny_denoiser())
    with pytest.raises(ValueError, match="started by an older version, which drew t and noise differently") as caught:
        PairWriter(str(tmp_path / "walked")).check(generator, HighQualityImages(str(hq)), "cpu")
    assert "\n" not in str(caught.value)


class Fade(Blur):
    """An operation of a user's own."""


def test_a_run_with_an_own_operation_is_resumed_by_a_command_that_names_it(tmp_path, predict):
    shutil.copytree(OLD / "hand_x1_faces_chain", tmp_path / "chain")
    (tmp_path / "chain" / "lq" / "1.png").unlink()
    path = f"{Fade.__module__}.Fade"
    described = (tmp_path / "chain" / "run.yaml").read_text().replace("ddpm_pairs.degradations.Blur", path)
    (tmp_path / "chain" / "run.yaml").write_text(described)
    assert path in described
    hq, faces = OLD / "hand_x1_faces_chain" / "hq", {"t_max": 0, "tile": 512}
    with pytest.raises(UserError, match=f"run.yaml names the class {path}"):
        predict(PairGenerator(Chain([Jpeg()], 1), **faces), hq, tmp_path / "chain")
    chain = Chain([Fade(kinds=["iso"], sigma=(0.4, 3.0)), Jpeg(quality=(40.0, 95.0))], 1)
    assert predict(PairGenerator(chain, **faces), hq, tmp_path / "chain")["made"] == 1
