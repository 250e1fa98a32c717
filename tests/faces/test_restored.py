"""LQ faces restored once: what is written, resumed, and refused."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_gan import stirred

from ddpm_pairs.errors import UserError
from ddpm_pairs.faces import restored_faces
from ddpm_pairs.images.pixels import enlarged
from ddpm_pairs.pairset.sources import find_pairs
from ddpm_pairs.restoration import GPEN, Restorer, RRDBNet

SIDE = 16


def save_gpen(path, seed=0):
    torch.manual_seed(seed)
    net = stirred(GPEN(SIDE, 1, 1 / 64)).eval()
    torch.save(net.state_dict(), path)
    return net


@pytest.fixture
def place(tmp_path, photos):
    """Faces of the network's side, smaller, and larger, one in a subfolder, and the weights."""
    (tmp_path / "lq" / "sub").mkdir(parents=True)
    for number, (name, side) in enumerate({"a.png": SIDE, "sub/b.png": 12, "c.jpg": 40}.items()):
        Image.fromarray(photos[number][:side, :side]).save(tmp_path / "lq" / name)
    save_gpen(tmp_path / "gpen.pth")
    return tmp_path


def restore(place, **options):
    given = {"lq_dir": place / "lq", "weights": place / "gpen.pth", "output_dir": place / "out", "device": "cpu"}
    return restored_faces(**given | options)


def pixels(path):
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)


def written(root):
    """Times of all images, by name."""
    return {path.relative_to(root).as_posix(): path.stat().st_mtime_ns for path in root.rglob("*.png")}


def test_pairs_have_the_keys_of_the_faces_and_the_side_of_the_network(place):
    net = save_gpen(place / "gpen.pth")
    out = restore(place)
    assert [(one.key, one.hq.path.name) for one in find_pairs(str(out), "x").pairs] == [
        ("a", "a.png"), ("c", "c.png"), ("sub/b", "b.png"),
    ]  # fmt: skip
    for key, source in {"a": "a.png", "c": "c.jpg", "sub/b": "sub/b.png"}.items():
        lq = enlarged(pixels(place / "lq" / source), (SIDE, SIDE))
        assert torch.equal(pixels(out / "lq" / f"{key}.png"), lq)
        with torch.no_grad():
            expected = (net(lq[None].float() / 255)[0].clamp(0, 1) * 255).round()
        assert (pixels(out / "hq" / f"{key}.png") - expected).abs().max() <= 1  # another layout in memory
    lines = [json.loads(line) for line in (out / "sources.jsonl").read_text().splitlines()]
    assert [(one["key"], one["source"]) for one in lines] == [("a", "a.png"), ("c", "c.jpg"), ("sub/b", "sub/b.png")]
    assert sorted(path.name for path in out.iterdir()) == ["failures.jsonl", "hq", "lq", "run.yaml", "sources.jsonl"]


def test_a_network_of_any_size_keeps_the_lq_size(place):
    torch.manual_seed(0)
    torch.save(RRDBNet(2, nf=8, nb=1, gc=8).state_dict(), place / "x2.pth")
    out = restore(place, weights=place / "x2.pth")
    sizes = {side: Image.open(out / side / "c.png").size for side in ("hq", "lq")}
    assert sizes == {"hq": (80, 80), "lq": (40, 40)}


def test_only_what_is_new_or_changed_is_restored_again(place):
    out = restore(place)
    before = written(out)
    restore(place)
    assert written(out) == before
    (out / "hq" / "sub" / "b.png").write_bytes(b"")  # as after a power failure
    Image.new("RGB", (SIDE, SIDE)).save(place / "lq" / "a.png")
    (place / "lq" / "c.jpg").unlink()
    with (out / "sources.jsonl").open("a") as file:
        file.write('{"key": "../../lq/a", "source": "", "sha256": ""}\n{"key": "a", "sour')
    restore(place)
    after = written(out)
    assert after.keys() == before.keys() - {"hq/c.png", "lq/c.png"}
    assert all(after[name] != before[name] for name in after)
    assert pixels(out / "lq" / "a.png").max() == 0 and (place / "lq" / "a.png").exists()
    assert [one.key for one in find_pairs(str(out), "x").pairs] == ["a", "sub/b"]


def test_faces_that_cannot_be_restored_are_listed_and_leave_nothing(place):
    out = restore(place)
    Image.new("RGB", (SIDE, SIDE + 4)).save(place / "lq" / "a.png")
    (place / "lq" / "d.png").write_text("no image")
    restore(place)
    failures = {one["source"]: one["reason"] for one in map(json.loads, (out / "failures.jsonl").open())}
    assert failures.keys() == {"a.png", "d.png"} and "square" in failures["a.png"]
    assert [one.key for one in find_pairs(str(out), "x").pairs] == ["c", "sub/b"]
    assert not (out / "lq" / "a.png").exists()


def test_other_weights_and_other_folders_are_refused(place):
    save_gpen(place / "other.pth", seed=1)
    torch.save({"x": torch.zeros(3)}, place / "none.pth")
    with pytest.raises(UserError, match="looks like"):
        restore(place, weights=place / "none.pth")
    restore(place)
    with pytest.raises(UserError, match="contains restored faces made with different settings .checkpoint_sha256"):
        restore(place, weights=place / "other.pth")
    (place / "pairs" / "hq").mkdir(parents=True)
    with pytest.raises(UserError, match="contains hq/ or lq/ that are not restored faces"):
        restore(place, output_dir=place / "pairs")
    for output_dir in (place / "lq", place / "lq" / "out", place):
        with pytest.raises(UserError, match="expected a folder apart from"):
            restore(place, output_dir=output_dir)
    with pytest.raises(UserError, match="FACES: there is no folder"):
        restore(place, lq_dir=place / "nowhere", option="FACES")
    Image.new("RGB", (9, 8)).save(place / "pairs" / "a.png")
    with pytest.raises(UserError, match="none of the 1 faces in .* can be restored .a.png: 9x8: .*; give aligned"):
        restore(place, lq_dir=place / "pairs", output_dir=place / "new")


def test_of_two_at_the_same_time_one_restores_and_the_other_waits(place, monkeypatch):
    calls, predict_step = [], Restorer.predict_step

    def counted(self, batch, number):
        calls.append(batch["pictures"][0].key)
        return predict_step(self, batch, number)

    monkeypatch.setattr(Restorer, "predict_step", counted)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: restore(place), range(2))) == [place / "out"] * 2
    assert calls == ["a", "c", "sub/b"]


@pytest.mark.slow
def test_processes_that_start_at_the_same_time_restore_each_face_once(place):
    script = "import sys; from ddpm_pairs.faces import restored_faces; restored_faces('lq', 'gpen.pth', 'out', 'cpu')"
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", script]
    ranks = [subprocess.Popen(command, cwd=place, env=environment, stderr=subprocess.PIPE, text=True) for _ in "12"]
    bars = ["restoring faces" in rank.communicate(timeout=240)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0] and sorted(bars) == [False, True]
    assert len(find_pairs(str(place / "out"), "x").pairs) == 3
