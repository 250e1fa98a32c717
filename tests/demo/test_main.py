import importlib.metadata
import socket

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ddpm_pairs import shipped
from ddpm_pairs.cli.main import main
from ddpm_pairs.demo import main as demo
from ddpm_pairs.demo import scenes as demo_scenes
from ddpm_pairs.demo.camera import Camera
from ddpm_pairs.reports.texture import TextureGap, TextureRow
from ddpm_pairs.tensors import generator_for

FILES = {"stereo_motorcycle": "motorcycle_left"}
"""Photographs whose file is not called like the function that loads it."""

TINY = demo.Recipe(
    lq_pictures=4, lq_side=40, hq_pictures=3, hq_side=128, channels=(8, 16), steps=4, trained_t=8, t_min=2, t_max=6
)  # fmt: skip


def test_photographs_are_in_two_disjoint_groups():
    names = [*demo_scenes.LQ_PHOTOGRAPHS, *demo_scenes.HQ_PHOTOGRAPHS]
    assert len({FILES.get(name, name) for name in names}) == len(names)


@pytest.mark.parametrize("name", [*demo_scenes.LQ_PHOTOGRAPHS, *demo_scenes.HQ_PHOTOGRAPHS])
def test_photographs_come_with_the_wheel_of_scikit_image(name, monkeypatch):
    def no_network(*arguments):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    in_wheel = {file.stem for file in importlib.metadata.files("scikit-image") if file.parent.name == "data"}
    assert FILES.get(name, name) in in_wheel
    picture = demo_scenes.photograph_named(name)
    assert picture.mode == "RGB" and min(picture.size) >= 300


def test_scenes_depend_on_seed_and_key_alone():
    few = demo_scenes.scenes(("coffee", "chelsea"), 3, 64, (0.6, 1.0), 0)
    more = demo_scenes.scenes(("coffee", "chelsea"), 4, 64, (0.6, 1.0), 0)
    assert list(more) == ["coffee_00", "chelsea_00", "coffee_01", "chelsea_01"]
    assert all(torch.equal(few[key], more[key]) for key in few)
    assert all(scene.shape == (3, 64, 64) and scene.dtype == torch.uint8 for scene in more.values())
    assert not torch.equal(few["coffee_00"], few["coffee_01"])
    assert not torch.equal(few["coffee_00"], demo_scenes.scenes(("coffee",), 1, 64, (0.6, 1.0), 1)["coffee_00"])


def test_a_scene_at_native_size_is_a_cutting_of_its_photograph():
    (scene,) = demo_scenes.scenes(("astronaut",), 1, 512, (1.0, 1.0), 3).values()
    photograph = np.asarray(demo_scenes.photograph_named("astronaut")).transpose(2, 0, 1)
    assert any(np.array_equal(scene.numpy(), whole) for whole in (photograph, photograph[..., ::-1]))


def test_camera_pictures_are_the_cameras_own():
    scenes = demo_scenes.scenes(("coffee", "rocket"), 2, 128, (0.6, 1.0), 0)
    taken = demo_scenes.photograph(scenes, 5, "roll 1")
    camera = Camera(4)
    parameters = camera.draw(generator_for(5, "rocket_00", "roll 1"))
    expected = camera.apply(scenes["rocket_00"][None].float() / 255, [parameters])[0] * 255
    assert torch.equal(taken["rocket_00"], expected.round().to(torch.uint8))
    assert not torch.equal(taken["rocket_00"], demo_scenes.photograph(scenes, 5, "roll 2")["rocket_00"])


def test_pictures_are_written_once_and_whole(tmp_path):
    def fail():
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        demo_scenes.write_pictures(tmp_path / "lq", fail)
    assert not (tmp_path / "lq").exists()
    picture = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
    demo_scenes.write_pictures(tmp_path / "lq", lambda: {"a": picture})
    demo_scenes.write_pictures(tmp_path / "lq", fail)  # not called
    assert [path.name for path in tmp_path.iterdir()] == ["lq"]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "lq" / "a.png")), picture.permute(1, 2, 0).numpy())


def test_a_folder_is_claimed_once_for_the_same_settings(tmp_path, capsys):
    root = tmp_path / "new" / "demo"
    demo.claim(root, {"seed": 0})
    demo.claim(root, {"seed": 0})
    assert "contains this demo already" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"contains a demo made with different settings \(seed 0 -> 1\)"):
        demo.claim(root, {"seed": 1})
    with pytest.raises(ValueError, match="contains other files"):
        demo.claim(tmp_path, {"seed": 0})
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        demo.claim(tmp_path / "file", {"seed": 0})


def test_pretrained_weights_that_are_not_shipped_are_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shipped, "ASSETS", tmp_path / "none")
    assert main(["demo", "--pretrained", "--output_dir", str(tmp_path / "demo")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "blind_camera does not exist" in error
    assert not (tmp_path / "demo").exists()


def test_verdicts_say_what_did_not_come_nearer():
    rows = TextureRow("initial", 1, -1.0, (0.1, -3.0)), TextureRow("final", 2, 0.2, (0.2, -3.5))
    gap = TextureGap(2.0, rows, TextureRow("floor", 2, -0.1, (-0.5, 0.3)), 10, 16)
    chroma, fine, coarse = demo.verdicts(gap)
    assert chroma == "Chroma noise came closer to the camera: off by -1.00, then +0.20 (floor 0.10)."
    assert fine.startswith(
        "Luminance power at 1/4-1/2 cycles per pixel did NOT come closer to the camera: off by -3.00"
    )
    assert coarse.startswith("Luminance power at 1/8-1/4 cycles per pixel is within the floor before and after")


@pytest.mark.slow
def test_whole_demo_and_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "demo"
    demo.run_demo(root, False, 3, TINY)
    text = capsys.readouterr().out
    steps = [text.index(f"[{number}/5]") for number in range(1, 6)]
    assert steps == sorted(steps)
    assert "$ lightning fit --config" in text and "$ lightning predict --config pairs_natural.yaml" in text
    assert "validation loss" in text and "pairs made now      3 (total in the folder: 3)" in text
    assert "real vs. real" in text and text.count("(floor ") == 4  # chroma and the three bands of 32 px
    assert {path.name for path in root.iterdir()} == {
        "demo.yaml", "ddpm.yaml", "hq", "lq", "camera_truth", "ddpm", "pairs"
    }  # fmt: skip
    assert len(list((root / "lq").iterdir())) == 4
    assert (root / "pairs" / "contact_sheet.png").is_file()
    run = yaml.safe_load((root / "pairs" / "run.yaml").read_text())["settings"]
    walk = run["degradation"]["init_args"]
    assert (run["seed"], walk["t"], walk["start"]["name"]) == (3, [2, 6], "bicubic")

    made = {path: path.stat().st_mtime_ns for path in root.rglob("*.png") if path.name != "contact_sheet.png"}
    demo.run_demo(root, False, 3, TINY)
    text = capsys.readouterr().out
    assert "already trained" in text and "pairs made now      0 (total in the folder: 3)" in text
    assert {path: path.stat().st_mtime_ns for path in made} == made

    (root / "ddpm" / "last.ckpt").unlink()  # as if killed before the first save
    (root / "pairs" / "lq" / "camera_00.png").unlink()
    demo.run_demo(root, False, 3, TINY)
    assert "validation loss" in capsys.readouterr().out
