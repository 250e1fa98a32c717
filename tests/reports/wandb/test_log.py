"""Offline W&B runs of a fit, of the t study and of predict, read back from their files."""

import csv
import re
import shlex
import signal
import sys
from pathlib import Path

import pytest
import skimage.data
import torch
import wandb
import yaml
from PIL import Image
from tiny_ddpm import save_safetensors, tiny_denoiser
from wandb_file import logged_runs

from ddpm_pairs.cli.main import main
from ddpm_pairs.reports.wandb.dashboard import SECTIONS

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

NET = {
    "class_path": "ddpm_pairs.diffusion.UNet",
    "init_args": {"channels": [8, 16], "layers_per_block": 1, "attention_levels": [], "norm_groups": 4},
}
TRAINER = {
    "accelerator": "cpu",
    "max_steps": 4,
    "max_epochs": -1,
    "val_check_interval": 2,
    "check_val_every_n_epoch": None,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 2,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
    "callbacks": [
        {"class_path": "ddpm_pairs.callbacks.EMA"},
        {
            "class_path": "ddpm_pairs.callbacks.SampleGrid",
            "init_args": {"ts": [5], "side": 16, "pictures": 2, "every_n_steps": 2, "degradation": "bicubic"},
        },
        {"class_path": "lightning.pytorch.callbacks.LearningRateMonitor"},
        {"class_path": "ddpm_pairs.callbacks.TrainingMonitor"},
    ],
}
CONFIG = {
    "model": {"class_path": "ddpm_pairs.diffusion.DDPM", "init_args": {"net": NET, "t_max": 60, "warmup_steps": 9}},
    "data": {
        "class_path": "ddpm_pairs.data.LowQualityImages",
        "init_args": {"crop_size": 16, "batch_size": 2, "num_workers": 0, "val_dir": "lq"},
    },
    "trainer": TRAINER,
}
OVERLAY = "--config parts/wandb.yaml"
FIT = f"fit --config tiny.yaml {OVERLAY} --data.lq_dir lq --output_dir 'a run'"
COMMON = (
    "--ckpt_path tiny.safetensors --data.hq_dir hq --data.num_workers 0 --model.threads 1 --trainer.accelerator cpu"
)
QUIET = "--trainer.enable_progress_bar false"
STUDY = f"test --config ablation.yaml {OVERLAY} {COMMON} {QUIET} --data.lq_dir lq --output_dir study"
STUDY += " --model.ts [0,10,60] --model.patch 16 --model.features random --model.num_steps 2"
PREDICT = f"predict --config pairs_natural.yaml {OVERLAY} {COMMON} {QUIET} --output_dir pairs"
PREDICT += " --model.t_min 0 --model.t_max 40 --model.num_steps 2"


EVALUATION = {"features": "random", "test_metrics": ["psnr", "ssim", "fid"], "every_n_steps": 2}
RESTORER = {
    "model": {
        "class_path": "ddpm_pairs.restoration.regression.Regression",
        "init_args": {
            "net": {
                "class_path": "ddpm_pairs.restoration.networks.rrdb.RRDBNet",
                "init_args": {"scale": 4, "nf": 8, "nb": 1, "gc": 4},
            }
        },
    },
    "data": {
        "class_path": "ddpm_pairs.data.RestorationPairs",
        "init_args": {
            "pairs_dir": "pairs",
            "include_rejected": True,
            "crop_size": 64,
            "batch_size": 2,
            "val_fraction": 0.3,
            "num_workers": 0,
        },
    },
    "trainer": TRAINER
    | {
        "callbacks": [
            {"class_path": "ddpm_pairs.callbacks.EMA"},
            {"class_path": "ddpm_pairs.callbacks.Evaluation", "init_args": EVALUATION},
        ]
    },
}
RESTORER_FIT = f"fit --config restorer.yaml {OVERLAY} --output_dir restorer"
RESTORER_TEST = f"test --config restorer.yaml {OVERLAY} --ckpt_path restorer/last.ckpt --output_dir scores"


def run(command, capsys):
    """What a command prints to the terminal."""
    capsys.readouterr()
    assert main(shlex.split(command)) == 0
    return capsys.readouterr()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Five HQ pictures, eight LQ pictures, a checkpoint, a config, and a W&B that knows no account."""
    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGINT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_SWEEP_ID", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    wandb.teardown()  # so that it reads its environment anew
    photo, other = skimage.data.astronaut(), skimage.data.coffee()
    for name in ("hq", "lq"):
        (tmp_path / name).mkdir()
    for number in range(5):
        Image.fromarray(photo[60 * number :][:64, 50 * number :][:, :64]).save(tmp_path / "hq" / f"{number}.png")
    for number in range(8):
        Image.fromarray(other[40 * number :][:24, 60 * number :][:, :24]).save(tmp_path / "lq" / f"{number}.png")
    save_safetensors(tiny_denoiser(), tmp_path / "tiny.safetensors")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(CONFIG))
    yield tmp_path
    wandb.teardown()
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, handler)


@pytest.mark.slow
def test_fit_beside_a_csv_logger_and_resumed(place, capsys):
    wandb_run = yaml.safe_load((Path(__file__).parents[3] / "configs/parts/wandb.yaml").read_text())["trainer"][
        "logger"
    ]
    csv_logger = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "csv"}}
    (place / "both.yaml").write_text(yaml.safe_dump({"trainer": {"logger": [csv_logger, wandb_run]}}))
    printed = run(FIT.replace(OVERLAY, "--config both.yaml"), capsys).err
    (logged,) = logged_runs("a run")
    hints = [line for line in printed.splitlines() if "wandb" in line.lower()]
    told = f"wandb sync 'a run/wandb'/offline-run-*-{logged.id}"
    assert hints == [f"W&B run kept on disk (no API key found); to upload it, run: {told}"]
    assert list(place.glob(f"a run/wandb/offline-run-*-{logged.id}")) == [place / logged.folder]
    assert (logged.name, logged.exit_code) == ("a run", 0)
    assert logged.config["model"]["init_args"]["t_max"] == 60

    bands = {name for name in logged.summary if re.fullmatch(r"val/loss_t\d+-\d+", name)}
    assert bands <= {"val/loss_t1-15", "val/loss_t16-30", "val/loss_t31-45", "val/loss_t46-60"} and len(bands) > 1
    assert {f"val_raw/{name[4:]}" for name in bands} | {"val/loss", "val_raw/loss"} <= logged.summary.keys()
    assert logged.values("lr-Adam") == pytest.approx({1: 8e-5 * 2 / 10, 3: 8e-5 * 4 / 10})
    assert logged.values("train/gradient_norm").keys() == logged.values("train/loss").keys() == {1, 3}
    assert min(logged.values("train/gradient_norm").values()) > 0
    assert all(0 < speed < 1e6 for speed in logged.values("train/pictures_per_second").values())
    assert logged.values("samples").keys() == {2, 4}
    with Image.open(logged.media("samples")) as grid:
        assert grid.size == (3 * 68 + 4, 2 * 68 + 4)  # HQ, initial LQ and t = 5 of two pictures of 64 px

    (table,) = place.glob("csv/lightning_logs/version_0/metrics.csv")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    for name in ("train/loss", "train/gradient_norm", "lr-Adam", "val/loss", *bands):
        ours = {int(row["step"]): float(row[name]) for row in rows if row[name]}
        assert ours == pytest.approx(logged.values(name), rel=1e-5)

    again = FIT.replace(OVERLAY, "--config both.yaml") + " --ckpt_path last --trainer.max_steps 6"
    assert run(again, capsys).err.count("wandb sync") == 1
    first, second = logged_runs("a run")
    assert first.id == second.id == logged.id
    assert second.values("train/loss").keys() == {5}


@pytest.mark.slow
def test_fit_begun_anew_is_another_run(place, capsys):
    run(f"{FIT} --trainer.max_steps 1", capsys)
    (place / "a run" / "last.ckpt").unlink()
    run(f"{FIT} --trainer.max_steps 1", capsys)
    first, second = logged_runs("a run")
    assert first.id != second.id


def test_failed_work_ends_the_run_as_failed(place, capsys):
    (place / "breaks.py").write_text(
        "import lightning as L\nclass Breaks(L.Callback):\n"
        "    def on_train_batch_end(self, *args):\n        raise RuntimeError('broken')\n"
    )
    sys.path.insert(0, str(place))
    try:
        with pytest.raises(RuntimeError, match="broken"):
            main(shlex.split(f"{FIT} --trainer.callbacks+=breaks.Breaks"))
    finally:
        sys.path.remove(str(place))
        del sys.modules["breaks"]
    (logged,) = logged_runs("a run")
    assert logged.exit_code == 1
    assert "wandb sync" in capsys.readouterr().err


def test_study(place, capsys):
    printed = run(STUDY, capsys)
    assert printed.err.count("wandb sync study/wandb/offline-run-") == 1
    (logged,) = logged_runs("study")
    with (place / "study" / "ablation.csv").open() as file:
        rows = list(csv.DictReader(file))
    table = logged.media("study/cells")
    assert table["columns"] == list(rows[0])
    assert [["" if value is None else value for value in line] for line in table["data"]] == [
        [value if name == "degradation" or not value else float(value) for name, value in row.items()] for row in rows
    ]
    floors = {"fid": "floor_fid", "fid192": "floor_fid192", "kid": "floor_kid", "psnr": None, "psnr_median": None}
    for score, floor in floors.items():
        series = logged.media(f"study/{score}_over_t_table")
        assert series["columns"] == ["step", "lineKey", "lineVal"]
        expected = [[int(row["t"]), row["degradation"], float(row[score])] for row in rows]
        if floor:
            expected += [[t, "real vs. real", float(rows[0][floor])] for t in (0, 10, 60)]
        assert series["data"] == expected
        chart = logged.config["_wandb"]["visualize"][f"study/{score}_over_t"]
        assert chart["panel_config"]["panelDefId"] == "wandb/lineseries/v0"
        for name in ("real_esrgan", "bicubic"):
            assert logged.metrics[f"cell/{name}/{score}"] == "cell/t"
            cells = {row["cell/t"]: row[f"cell/{name}/{score}"] for row in logged.rows if "cell/t" in row}
            assert cells == {int(row["t"]): float(row[score]) for row in rows if row["degradation"] == name}
    for name, file in (("plot", "ablation.png"), ("grid", "grid.png")):
        assert logged.media(f"study/{name}").read_bytes() == (place / "study" / file).read_bytes()
    assert logged.summary["recommended/words"] in printed.out
    assert logged.summary["recommended/command"] in printed.out
    assert logged.summary["recommended/t"] in (0, 10, 60)
    assert logged.summary["recommended/kid"] == pytest.approx(
        next(
            float(row["kid"])
            for row in rows
            if (row["degradation"], int(row["t"]))
            == (logged.summary["recommended/degradation"], logged.summary["recommended/t"])
        ),
        rel=1e-4,
    )


@pytest.mark.slow
def test_study_typed_again_is_not_logged_again(place, capsys):
    run(STUDY, capsys)
    (first,) = logged_runs("study")
    assert sum("cell/t" in row for row in first.rows) == 3
    run(STUDY, capsys)
    run(f"{STUDY} --model.psnr_drop 0", capsys)
    same, again, otherwise = logged_runs("study")
    assert {one.id for one in (same, again, otherwise)} == {first.id}
    assert not any("cell/t" in row or "study/cells" in row for row in again.rows)
    assert sum("cell/t" in row for row in otherwise.rows) == 3  # another recommendation is news


def test_study_from_hq_itself(place, capsys):
    printed = run(f"{STUDY} --model.degradations [bicubic] --model.scale 1", capsys)
    assert "LQ of bicubic at t = 0 equals HQ" in printed.out
    (logged,) = logged_runs("study")
    shown = [row[2] for row in logged.media("study/psnr_median_over_t_table")["data"]]
    assert shown[0] is None
    assert min(shown[1:]) > 10
    assert logged.summary["recommended/psnr_median"] == pytest.approx(
        shown[(0, 10, 60).index(logged.summary["recommended/t"])]
    )


def test_pairs(place, capsys):
    run(PREDICT, capsys)
    (logged,) = logged_runs("pairs")
    assert {name: logged.summary[f"pairs/{name}"] for name in ("made", "in_folder", "skipped")} == {
        "made": 5,
        "in_folder": 5,
        "skipped": 0,
    }
    assert logged.summary["pairs/psnr_median"] > 0
    assert logged.media("pairs/contact_sheet").read_bytes() == (place / "pairs" / "contact_sheet.png").read_bytes()
    assert run(PREDICT, capsys).err.count("wandb sync") == 1  # nothing is left to make
    assert len({one.id for one in logged_runs("pairs")}) == 1


@pytest.mark.slow
def test_every_panel_of_the_dashboard_shows_what_is_logged(place, capsys):
    (place / "restorer.yaml").write_text(yaml.safe_dump(RESTORER))
    for command in (FIT, STUDY, PREDICT, RESTORER_FIT, RESTORER_TEST):
        run(command, capsys)
    folders = ("pairs", "a run", "study", "restorer", "scores")
    names = {name for folder in folders for one in logged_runs(folder) for name in one.summary}
    panels = [panel for panels in SECTIONS.values() for panel in panels]
    for panel in panels:
        for key in [*panel.keys, panel.x] if panel.kind == "lines" else panel.keys:
            key += "_table" if panel.kind == "series" else ""
            pattern = key if ".*" in key else re.escape(key)
            assert any(re.search(f"^{pattern}", name) for name in names), key
    sweep = yaml.safe_load((Path(__file__).parents[3] / "configs/sweep_t.yaml").read_text())
    assert sweep["metric"]["name"] in names


def test_without_any_logger(place, capsys):
    run(FIT.replace(OVERLAY, "") + " --trainer.logger false --trainer.max_steps 2", capsys)
    assert {path.name for path in (place / "a run").iterdir()} == {"config.yaml", "last.ckpt"}


@pytest.mark.slow
def test_study_of_starts_is_logged_once_with_its_table(place, capsys):
    words = STUDY.replace("ablation.yaml", "table3.yaml")
    run(words, capsys)
    run(words, capsys)
    first, again = logged_runs("study")
    with (place / "study" / "starts.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    table = first.media("starts/rows")
    assert table["columns"] == rows[0] and len(table["data"]) == len(rows) - 1
    assert [row[0] for row in table["data"]] == [row[0] for row in rows[1:]]
    for name, file in (("plot", "starts.png"), ("grid", "starts_grid.png")):
        assert first.media(f"starts/{name}").stat().st_size > 1000, file
    assert not any("starts/rows" in row for row in again.rows)
