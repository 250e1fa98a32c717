import json
import shutil

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_pairs.cli.jobs.pairs import report_pairs, summary_lines
from ddpm_pairs.data import HighQualityImages
from ddpm_pairs.diffusion import Schedule, UNet
from ddpm_pairs.diffusion.denoiser import Denoiser
from ddpm_pairs.images.find import Failure
from ddpm_pairs.images.pixels import psnr_against_hq
from ddpm_pairs.pairset.folder import PairsFolder
from ddpm_pairs.pairset.records import Summary
from ddpm_pairs.synthesis import PairGenerator, PairWriter


def make_pairs(root, hq, scale, degradation="real_esrgan"):
    """A pairs folder by an untrained network; returns the writer's summary."""
    torch.manual_seed(0)
    generator = PairGenerator(degradation, scale=scale, t_min=1, t_max=9, slots=4)
    net = UNet(channels=[8, 16], layers_per_block=1, attention_levels=[], norm_groups=4)
    generator.add_walk(Denoiser(net, Schedule()).eval())
    writer = PairWriter(str(root))
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=[writer], use_distributed_sampler=False
    )
    trainer.predict(generator, HighQualityImages(str(hq), num_workers=0), return_predictions=False)
    return writer.summary, generator


@pytest.fixture
def hq_dir(tmp_path, photos):
    folder = tmp_path / "hq"
    (folder / "sub").mkdir(parents=True)
    Image.fromarray(photos[0]).save(folder / "landscape.png")
    Image.fromarray(photos[1].transpose(1, 0, 2).copy()).save(folder / "sub" / "portrait.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.mark.parametrize("scale", [1, 4])
def test_report_of_a_real_run(tmp_path, hq_dir, scale, capsys):
    root = tmp_path / "pairs [1]"  # brackets are markup to rich
    report_pairs(root, *make_pairs(root, hq_dir, scale))
    text = capsys.readouterr().out
    assert "pairs made now      2 (total in the folder: 2)\n" in text
    assert "pairs/s" in text and "evaluations" in text
    assert "notes.txt: no image suffix" in text
    assert f"{root / 'contact_sheet.png'}\n" in text  # whole, however long
    assert "\x1b" not in text
    with Image.open(root / "contact_sheet.png") as sheet:
        assert sheet.width == 2 * 24 + 2 * (3 * 256 + 2 * 8) + 24
        pixels = np.asarray(sheet.convert("RGB"))
    lq = np.asarray(Image.open(root / "lq" / "landscape.png"))
    factor = {1: 2, 4: 8}[scale]  # 128x96 and 32x24
    shown = lq.repeat(factor, 0).repeat(factor, 1)
    top, left = 88, 24 + 2 * (256 + 8)  # first row, third column
    assert np.array_equal(pixels[top : top + shown.shape[0], left : left + 256], shown)
    assert {path.name for path in root.iterdir()} == {
        "hq", "lq", "manifest.jsonl", "meta_info.txt", "run.yaml", "failures.jsonl", "contact_sheet.png"
    }  # fmt: skip


def test_initial_lq_is_the_one_that_was_used(tmp_path, hq_dir):
    root = tmp_path / "pairs"
    summary, generator = make_pairs(root, hq_dir, 4)
    assert summary["folder"].pairs == 2
    for record in PairsFolder(root).records():
        hq = torch.from_numpy(np.array(Image.open(root / record["hq"]))).permute(2, 0, 1)
        (initial,) = generator.initial_lqs([hq], [record])
        assert psnr_against_hq(hq, initial) == record["psnr_initial"]


def test_initial_lq_of_another_degradation_is_left_blank(tmp_path, hq_dir):
    root = tmp_path / "pairs"
    summary, generator = make_pairs(root, hq_dir, 4)
    first, second = PairsFolder(root).records()
    first["degradation"] = {"name": "other", "parameters": {}}
    assert generator.initial_lqs([torch.zeros(3, 96, 128, dtype=torch.uint8)], [first]) == [None]
    (root / "manifest.jsonl").write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    report_pairs(root, summary, generator)
    pixels = np.asarray(Image.open(root / "contact_sheet.png"))
    place = pixels[88 : 88 + 192, 24 + 264 : 24 + 264 + 256]
    assert (place == place[0, 0]).all()


def test_lines_of_another_program_are_shown_too(tmp_path, hq_dir):
    root = tmp_path / "pairs"
    summary, generator = make_pairs(root, hq_dir, 4)
    lines = [{name: record[name] for name in ("key", "hq", "lq")} for record in PairsFolder(root).records()]
    lines[1] |= {"degradation": {"name": "real_esrgan"}, "scale": 4, "lq_size": [24, 32], "source_sha256": "0"}
    (root / "manifest.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    report_pairs(root, summary | {"folder": Summary(lines)}, generator)
    pixels = np.asarray(Image.open(root / "contact_sheet.png"))
    assert len(np.unique(pixels[88 : 88 + 192, 24 + 264 : 24 + 264 + 256])) == 1  # of no known degradation
    assert len(np.unique(pixels[88 : 88 + 192, 24 : 24 + 256])) > 50


def test_one_pair_and_none(tmp_path, hq_dir, capsys):
    shutil.rmtree(hq_dir / "sub")
    root = tmp_path / "pairs"
    summary, generator = make_pairs(root, hq_dir, 4)
    report_pairs(root, summary, generator)
    with Image.open(root / "contact_sheet.png") as sheet:
        assert sheet.width == 2 * 24 + 3 * 256 + 2 * 8
    capsys.readouterr()

    empty = tmp_path / "empty"
    report_pairs(empty, summary_of([], made=0, failures=[Failure("a.png", "torn")]), generator)
    text = capsys.readouterr().out
    assert "0 (total in the folder: 0)" in text and "a.png: torn" in text and "contact_sheet" not in text
    assert not empty.exists()


def record(psnr, initial, t=10, evaluations=4, accepted=True):
    return {"psnr": psnr, "psnr_initial": initial, "t": t, "evaluations": evaluations, "accepted": accepted}


def summary_of(records, made=5, seconds=1.0, failures=(), occupancy=None):
    return {
        "made": made,
        "changed": 0,
        "seconds": seconds,
        "folder": Summary(records),
        "failures": failures,
        "occupancy": occupancy,
    }


def test_numbers_of_the_summary(tmp_path):
    records = [record(20.0 + n, 30.0 + n, t=10 * n, evaluations=2 * n) for n in range(5)]
    failures = [Failure(f"{n}.png", "torn") for n in range(12)]
    lines = summary_lines(tmp_path, summary_of(iter(records), 4, 8.0, failures, occupancy=0.98712))
    texts = dict(lines)
    assert texts["pairs made now"] == "4 (total in the folder: 5)"
    assert texts["speed"] == "0.50 pairs/s (8.0 s)"
    assert texts["PSNR of LQ"] == "21.0 / 22.0 / 23.0 dB (quartiles)"
    assert texts["PSNR of initial LQ"] == "31.0 / 32.0 / 33.0 dB (quartiles)"
    assert texts["evaluations"] == "4.0 per pair on average"
    assert texts["t"] == "20 on average"
    assert texts["network slots used"] == "98.7%"
    assert texts["sources skipped"] == f"12; see {tmp_path / 'failures.jsonl'}"
    listed = [text for label, text in lines if not label]
    assert listed == [*(f"{n}.png: torn" for n in range(10)), "and 2 more"]


@pytest.mark.parametrize(
    ("rejected", "text"),
    [
        (0, "5 of 5"),
        (2, "3 of 5; 2 lost more PSNR than --model.psnr_drop allows and are skipped by restorers"),
        (3, "skipped by restorers (use a smaller --model.t_max or a milder initial degradation)"),
    ],
)
def test_summary_counts_what_the_gate_let_through(tmp_path, rejected, text):
    summary = summary_of([record(20.0, 23.0, accepted=n >= rejected) for n in range(5)])
    assert dict(summary_lines(tmp_path, summary))["accepted"].endswith(text)


def test_equal_pictures_count_as_infinitely_good(tmp_path):
    records = [record(psnr, psnr, t=0, evaluations=0) for psnr in (None, 20.0, None)]
    texts = dict(summary_lines(tmp_path, summary_of(records, made=0)))
    assert texts["PSNR of LQ"] == "20.0 / inf / inf dB (quartiles)"
    assert "speed" not in texts and "network slots used" not in texts
    assert json.dumps(texts)
