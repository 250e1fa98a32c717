"""``lightning fit`` and ``test`` with a restorer, and what they leave."""

import json
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
import torch
import yaml
from PIL import Image

from ddpm_pairs.cli.main import main
from ddpm_pairs.pairset.pack import pack

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")

CONFIG = {
    "model": {
        "init_args": {
            "net": {
                "class_path": "ddpm_pairs.restoration.networks.rrdb.RRDBNet",
                "init_args": {"scale": 4, "nf": 8, "nb": 1, "gc": 4},
            }
        }
    },
    "trainer": {
        "callbacks": [
            {"class_path": "ddpm_pairs.callbacks.EMA"},
            {
                "class_path": "ddpm_pairs.callbacks.Evaluation",
                "init_args": {
                    "features": "random",
                    "test_metrics": ["psnr", "ssim", "fid", "kid"],
                    "every_n_steps": 2,
                },
            },
        ]
    },
}
COMMON = "--config rrdb_small.yaml --config tiny.yaml --data.pairs_dir pairs --data.num_workers 0 --data.crop_size 64 "
COMMON += "--data.batch_size 2 --trainer.accelerator cpu --trainer.precision 32 --trainer.enable_progress_bar false"
FIT = f"fit {COMMON} --trainer.max_steps 2 --trainer.val_check_interval 2 --output_dir run"
TEST = f"test {COMMON} --ckpt_path run/last.ckpt --output_dir scores"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Seven pairs x4 of two sizes."""
    monkeypatch.chdir(tmp_path)
    photo = skimage.data.astronaut()
    for number in range(7):
        hq = Image.fromarray(photo[60 * number :][:64, 50 * number :][:, : 64 + 16 * (number % 2)])
        lq = hq.resize((hq.width // 4, hq.height // 4), Image.Resampling.BICUBIC)
        for side, picture in (("hq", hq), ("lq", lq)):
            path = tmp_path / "pairs" / side / "sub" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(CONFIG))
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


def test_fit_then_test(place, capsys):
    assert main(FIT.split()) == 0
    saved = torch.load(place / "run" / "last.ckpt", weights_only=True)
    assert all(name.startswith("net.") for name in saved["state_dict"])
    assert set(saved["callbacks"]["Evaluation"]) == {"last_step"}
    (logs,) = (place / "run" / "logs").iterdir()
    assert (logs / "before_after" / "step_0000002.png").is_file()
    capsys.readouterr()

    assert main(TEST.split()) == 0
    found = json.loads((place / "scores" / "metrics.json").read_text())
    assert found["n"] == 7 and found["lpips"] is None and found["fid"] > 0
    errors = []
    for number in range(7):
        images = [place / "scores" / "restored" / f"sub/{number}.png", place / "pairs" / "hq" / f"sub/{number}.png"]
        ours, hq = (np.array(Image.open(path)).astype(float) for path in images)
        errors.append(10 * np.log10(255**2 / np.mean((ours - hq) ** 2)))
    assert found["psnr"] == pytest.approx(np.mean(errors), abs=1e-4)
    assert found["input"]["psnr"] > 20
    for name in ("metrics.csv", "pictures.csv", "before_after.png", "report.html"):
        assert (place / "scores" / name).is_file()
    assert "enlarged LQ" in capsys.readouterr().out


@pytest.mark.slow
def test_a_test_goes_on_and_refuses_other_weights(place, capsys):
    assert main(FIT.split()) == 0
    assert main(TEST.split()) == 0
    first = (place / "scores" / "metrics.json").read_text()
    restored = sorted((place / "scores" / "restored").rglob("*.png"))
    Image.fromarray(np.asarray(Image.open(place / "pairs/hq/sub/0.png"))).save(restored[0])  # which stays as it is
    restored[1].unlink()
    assert main(TEST.split()) == 0
    found = json.loads((place / "scores" / "metrics.json").read_text())
    assert found["psnr"] is None or found["psnr"] > json.loads(first)["psnr"]
    assert restored[1].is_file()
    restored[0].unlink()
    assert main(TEST.split()) == 0
    assert (place / "scores" / "metrics.json").read_text() == first
    capsys.readouterr()
    assert main([*TEST.split(), "--model.tile", "80"]) == 2
    assert "(tile 256 -> 80)" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["webdataset", "lmdb"])
def test_packed_pairs_give_what_the_folder_gives(place, form):
    if form == "lmdb":
        pytest.importorskip("lmdb", reason="needs the lmdb package")
    lines = []
    for number in range(7):
        name, width = f"sub/{number}", 64 + 16 * (number % 2)
        sizes = {"hq_size": [width, 64], "lq_size": [width // 4, 16]}
        lines.append(json.dumps({"key": name, "hq": f"hq/{name}.png", "lq": f"lq/{name}.png"} | sizes) + "\n")
    (place / "pairs" / "manifest.jsonl").write_text("".join(lines))
    pack(place / "pairs", place / "packed", form)
    for words in (FIT, TEST):
        assert main(words.split()) == 0
        folder = f"packed_{words.split()[-1]}"
        assert main([*words.split(), "--data.pairs_dir", "packed", "--output_dir", folder]) == 0
    one, other = (torch.load(place / run / "last.ckpt", weights_only=True) for run in ("run", "packed_run"))
    assert all(torch.equal(other["state_dict"][name], weight) for name, weight in one["state_dict"].items())
    for name in ("metrics.json", "pictures.csv", "report.html"):
        assert (place / "packed_scores" / name).read_bytes() == (place / "scores" / name).read_bytes()


def test_missing_weights_are_one_line_before_any_work(place, monkeypatch, capsys):
    monkeypatch.setenv("DDPM_PAIRS_WEIGHTS", str(place))
    monkeypatch.setenv("TORCH_HOME", str(place))
    monkeypatch.setattr("torch.hub.download_url_to_file", _no_network)
    config = CONFIG | {"trainer": {"callbacks": [{"class_path": "ddpm_pairs.callbacks.Evaluation"}]}}
    (place / "tiny.yaml").write_text(yaml.safe_dump(config))
    assert main(FIT.split()) == 0  # whose PSNR and SSIM need none
    capsys.readouterr()
    assert main(TEST.split()) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "AlexNet" in said
    assert not (place / "scores").exists()


def _no_network(*_, **__):
    raise OSError("no network")


@pytest.mark.slow
def test_two_ranks_find_what_one_does(place):
    assert main(FIT.split()) == 0
    assert main(TEST.split()) == 0
    words = [*TEST.split(), "--output_dir", "two", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    completed = subprocess.run(
        [sys.executable, "-m", "ddpm_pairs", *words], cwd=place, capture_output=True, text=True, timeout=300
    )
    assert completed.returncode == 0, completed.stderr
    one, two = (json.loads((place / folder / "metrics.json").read_text()) for folder in ("scores", "two"))
    for name in ("psnr", "ssim", "fid", "fid192", "kid"):
        assert two[name] == pytest.approx(one[name], rel=1e-5)
    assert two["n"] == one["n"] == 7
    assert (place / "two" / "before_after.png").is_file()
    assert len(list((place / "two" / "restored").rglob("*.png"))) == 7
