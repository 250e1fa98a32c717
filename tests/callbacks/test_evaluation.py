"""Scores of restored pictures in fit, validation and test."""

import csv
import socket

import lightning as L
import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import wandb
from evaluated_equal import assert_equal
from lightning.pytorch.loggers import CSVLogger
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from wandb_file import logged_runs

from ddpm_pairs.callbacks import EMA, Evaluation, LastCheckpoint
from ddpm_pairs.images.before_after import choose, cut_center, grid
from ddpm_pairs.metrics.features import RandomFeatures, extract
from ddpm_pairs.metrics.paired_scores import paired_scores
from ddpm_pairs.metrics.set_scores import set_scores
from ddpm_pairs.reports.wandb.run import WandbRun

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")

ALL = ["psnr", "ssim", "fid", "kid"]


class Brighter(L.LightningModule):
    """Adds a trained level to LQ enlarged twice; what comes out is not clamped."""

    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.tensor(0.02))

    def forward(self, lq):
        return lq.repeat_interleave(2, 2).repeat_interleave(2, 3) + self.level

    def training_step(self, batch, batch_idx):
        return (self(batch["lq"]) - batch["hq"]).square().mean()

    def validation_step(self, batch, batch_idx):
        return batch | {"restored": self(batch["lq"])}

    test_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def pairs(photos, n):
    """n pairs with keys, HQ of different sizes and white and black in each."""
    made = []
    for number in range(n):
        hq = photos[number % 4][number : number + 40, : 40 + 2 * (number % 3)].copy()
        hq[:10], hq[10:14] = 255, 0
        hq = torch.from_numpy(hq).permute(2, 0, 1).float() / 255
        lq = nn.functional.avg_pool2d(hq, 2)
        made.append({"hq": hq, "lq": lq, "key": f"some/{number}"})
    return made


def loader(made):
    return DataLoader(dataset=made, batch_size=1)


def restored(module, pair):
    with torch.no_grad():
        return (module(pair["lq"][None]).clamp(0, 1) * 255).round().to(torch.uint8)


def run(root, callbacks, **options):
    options = {"max_steps": 4, "max_epochs": -1, "val_check_interval": 2, "check_val_every_n_epoch": None, **options}
    options = {"logger": False, "num_sanity_val_steps": 0, **options}
    return L.Trainer(
        accelerator="cpu",
        default_root_dir=str(root),
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
        **options,
    )


def test_test_scores_writes_and_keeps(photos, tmp_path):
    module, made = Brighter(), pairs(photos, 5)
    evaluation = Evaluation(test_metrics=ALL, features="random", sheet=3)
    trainer = run(tmp_path, [evaluation])
    logged = trainer.test(module, loader(made), verbose=False)[0]
    result = evaluation.result
    assert result.n == 5 and list(result.pictures) == [pair["key"] for pair in made]
    shown = [restored(module, pair) for pair in made]
    hqs = [(pair["hq"][None] * 255).round().to(torch.uint8) for pair in made]
    psnr = [paired_scores(ours, hq)["psnr"].item() for ours, hq in zip(shown, hqs, strict=True)]
    assert [found["psnr"] for found in result.pictures.values()] == psnr
    expected = set_scores(*(extract(RandomFeatures(), part) for part in (shown, hqs)))
    assert result.values["fid"] == pytest.approx(expected.fid, rel=1e-6)
    assert result.values["kid"] == pytest.approx(expected.kid, rel=1e-6)
    assert logged == pytest.approx({f"test/{name}": value for name, value in result.values.items()}, rel=1e-6)
    for ours, pair in zip(shown, made, strict=True):
        with Image.open(tmp_path / "restored" / f"{pair['key']}.png") as image:
            assert np.array_equal(np.array(image), ours[0].permute(1, 2, 0).numpy())
    assert len(list((tmp_path / "restored").rglob("*.*"))) == 5
    assert len(evaluation.shown) == 3


def test_a_value_out_of_range_is_clamped_not_wrapped(photos, tmp_path):
    module, evaluation = Brighter(), Evaluation(test_metrics=["psnr"])
    module.level.data.fill_(0.5)
    white = torch.full((3, 40, 40), 1.0)
    pair = {"hq": white, "lq": white[:, ::2, ::2], "key": "white"}
    run(tmp_path, [evaluation]).test(module, loader([pair]), verbose=False)
    assert evaluation.result.pictures["white"]["psnr"] == float("inf")
    with Image.open(tmp_path / "restored" / "white.png") as image:
        assert np.array(image).min() == 255


def test_fit_logs_scores_and_pictures_and_saves_neither(photos, tmp_path):
    evaluation = Evaluation(ALL, features="random", sheet=2, every_n_steps=3)
    logger = CSVLogger(tmp_path, name="logs", version="")
    callbacks = [EMA(0.5, 1), evaluation, LastCheckpoint(str(tmp_path), 100)]
    trainer = run(tmp_path, callbacks, logger=logger, num_sanity_val_steps=1)
    module, made = Brighter(), pairs(photos, 5)
    trainer.fit(module, loader(made), loader(made))
    with (tmp_path / "logs" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val/psnr"]]
    assert [float(row["step"]) for row in rows] == [1, 3]
    assert all(float(row[f"val/{name}"]) for row in rows for name in ("ssim", "fid", "fid192", "kid"))
    hqs = [(pair["hq"][None] * 255).round().to(torch.uint8) for pair in made]
    with_average = [paired_scores(restored(module, pair), hq)["psnr"] for pair, hq in zip(made, hqs, strict=True)]
    assert float(rows[-1]["val/psnr"]) == pytest.approx(torch.cat(with_average).mean().item(), rel=1e-5)
    (sheet,) = (tmp_path / "logs" / "before_after").iterdir()
    assert sheet.name == "step_0000004.png"
    with Image.open(sheet) as image:
        assert image.height == 2 * 44 + 4

    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["callbacks"]["Evaluation"] == {"last_step": 4}
    assert set(saved["state_dict"]) == {"level"}
    (raw,) = (saved[name] for name in saved if name == "current_model_state")
    assert set(raw) == {"level"}
    assert (tmp_path / "last.ckpt").stat().st_size < 20_000


@pytest.mark.slow
def test_pictures_and_scores_reach_wandb(photos, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    wandb.teardown()  # so that it reads its environment anew
    logger = WandbRun(offline=True)
    logger.settle(tmp_path, False, {})
    made = pairs(photos, 5)
    trainer = run(tmp_path, [Evaluation(sheet=2, every_n_steps=2)], logger=logger)
    module = Brighter()
    trainer.fit(module, loader(made), loader(made))
    logger.finish()
    (logged,) = logged_runs(tmp_path)
    assert logged.values("val/psnr").keys() == logged.values("val/ssim").keys() == {1, 3}
    assert logged.values("val/psnr")[3] == pytest.approx(trainer.callback_metrics["val/psnr"].item())
    assert logged.values("before_after").keys() == {2, 4}
    with Image.open(logged.media("before_after")) as image:
        assert image.height == 2 * 44 + 4


def test_missing_weights_end_in_a_line_before_work(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_PAIRS_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", _no_network)
    evaluation = Evaluation()
    evaluation.check()  # PSNR and SSIM need none
    with pytest.raises(ValueError, match="AlexNet") as caught:
        evaluation.check("test")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="Inception"):
        Evaluation(["fid"]).check()
    with pytest.raises(ValueError, match="AlexNet"):
        run(tmp_path, [Evaluation()]).test(Brighter(), loader(pairs(photos, 1)), verbose=False)
    assert not (tmp_path / "restored").exists()


def _no_network(*_, **__):
    raise OSError("no network")


def test_what_cannot_be_scored_is_told_and_still_written(photos, tmp_path):
    made = pairs(photos, 2)
    small = {"hq": made[0]["hq"][:, :20, :20], "lq": made[0]["lq"][:, :10, :10], "key": "small"}
    evaluation = Evaluation(test_metrics=["psnr"])
    with pytest.warns(UserWarning, match="1 images could not be scored, such as small: got images of 20x20 px"):
        run(tmp_path, [evaluation]).test(Brighter(), loader([*made, small]), verbose=False)
    assert list(evaluation.failures) == ["small"]
    assert (evaluation.result.n, (tmp_path / "restored" / "small.png").is_file()) == (2, True)


def test_another_modules_outputs_are_refused(photos, tmp_path):
    class Silent(Brighter):
        def test_step(self, batch, batch_idx):
            return None

    with pytest.raises(TypeError, match=r"Silent.test_step: got .* NoneType; expected a dict with restored, hq"):
        run(tmp_path, [Evaluation(test_metrics=["psnr"])]).test(Silent(), loader(pairs(photos, 1)), verbose=False)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"metrics": ["fud"]}, "got score 'fud'"), ({"sheet": 0}, "sheet: got 0"), ({"every_n_steps": 0}, "steps: got 0")],
)
def test_wrong_arguments(options, said):
    with pytest.raises(ValueError, match=said):
        Evaluation(**options)


def share(rank, port, made, root):
    """One of two ranks, which meets its pictures as a Trainer's loop would give them."""
    torch.set_num_threads(1)  # a forked process has none of its parent's threads
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    evaluation = Evaluation(test_metrics=ALL, features="random", sheet=3)
    run(root, [evaluation]).test(Brighter(), loader(made[rank::2]), verbose=False)
    torch.save([vars(evaluation.result), [vars(one) for one in evaluation.shown]], root / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.parametrize("n", [7, 8])
def test_two_ranks_find_what_one_does(photos, tmp_path, n):
    made = pairs(photos, n)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(share, (port, made, tmp_path), nprocs=2, start_method="fork")
    alone = Evaluation(test_metrics=ALL, features="random", sheet=3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run(tmp_path / "alone", [alone]).test(Brighter(), loader(made), verbose=False)
    torch.set_num_threads(threads)
    for rank in range(2):
        result, shown = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        assert_equal(result, vars(alone.result))
        assert [one["key"] for one in shown] == [one.key for one in alone.shown]
        assert all(torch.equal(ours["hq"], one.hq) for ours, one in zip(shown, alone.shown, strict=True))
    assert len(list((tmp_path / "restored").rglob("*.png"))) == n


class TestBeforeAfter:
    def test_centres_show_the_same_content(self):
        y, x = torch.meshgrid(torch.arange(100), torch.arange(200), indexing="ij")
        lq = torch.stack([y, x, x]).to(torch.uint8)
        hq = lq.repeat_interleave(4, 1).repeat_interleave(4, 2)
        one = cut_center("a", lq, hq, hq)
        assert one.lq.shape == (3, 64, 64) and one.hq.shape == one.restored.shape == (3, 256, 256)
        assert one.lq[:, 0, 0].tolist() == [18, 68, 68]
        assert torch.equal(one.lq.repeat_interleave(4, 1).repeat_interleave(4, 2), one.hq)

    def test_smaller_pictures_are_shown_whole_and_cut_to_one_size(self):
        small = torch.zeros(3, 10, 12, dtype=torch.uint8)
        large = torch.full((3, 15, 18), 255, dtype=torch.uint8)
        one, two = cut_center("a", small, large, large), cut_center("b", small, large[:, :, :16], large[:, :, :16])
        assert one.hq.shape == (3, 15, 18)
        picture = grid([one, two])
        assert picture.shape == (3, 2 * 19 + 4, 3 * 20 + 4)
        assert picture[:, 4:19, 4:20].max() == 0 and picture[:, 4:19, 24:40].min() == 1

    def test_a_choice_of_choices_is_the_choice_of_all(self):
        empty = torch.zeros(3, 4, 4, dtype=torch.uint8)
        pictures = [cut_center(str(n), empty, empty, empty) for n in range(20)]
        expected = [one.key for one in choose(pictures, 5)]
        parts = [*choose(pictures[::2], 5), *choose(pictures[1::2], 5)]
        assert [one.key for one in choose([*parts, parts[0]], 5)] == expected == sorted(expected)
