"""The progress that predict reports."""

import re
import sys

import lightning as L
import pytest
from PIL import Image

from ddpm_pairs.cli.jobs.pairs import PairsProgress
from ddpm_pairs.cli.main import main
from ddpm_pairs.data import HighQualityImages
from ddpm_pairs.synthesis import PairGenerator, PairWriter

LINE = re.compile(r"rank 0: (\d+) of (\d+) pairs, \d+\.\d\d pairs/s, (\d+) in the queue")


@pytest.fixture
def hq(tmp_path):
    """Nine images in three batches of up to four."""
    for number in range(9):
        (tmp_path / "hq").mkdir(exist_ok=True)
        Image.new("RGB", (64, 64), (number, 0, 0)).save(tmp_path / "hq" / f"{number}.png")
    (tmp_path / "hq" / "8.png").write_text("no picture")
    Image.new("RGB", (64, 64)).save(tmp_path / "hq" / "9.png")
    return tmp_path / "hq"


def predict(hq, out):
    writer = PairWriter(str(out))
    trainer = L.Trainer(
        accelerator="cpu", logger=False, callbacks=[writer, PairsProgress(writer)], enable_model_summary=False,
        enable_checkpointing=False, use_distributed_sampler=False,
    )  # fmt: skip
    data = HighQualityImages(str(hq), num_workers=0)
    trainer.predict(PairGenerator("bicubic", t_max=0, slots=4, threads=1), data, return_predictions=False)


def test_lines_where_there_is_no_terminal(hq, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ddpm_pairs.cli.jobs.pairs.INTERVAL", 0.0)
    predict(hq, tmp_path / "pairs")
    said = capsys.readouterr().err
    assert "\x1b" not in said and "\r" not in said
    told = [tuple(map(int, found)) for found in LINE.findall(said)]
    assert [line[:2] for line in told] == [(4, 9), (8, 9), (9, 9), (9, 9)]
    assert told[-1][2] == 0 and all(queue <= 8 for *_, queue in told)


def test_a_line_a_minute(hq, tmp_path, capsys):
    """Progress at the first batch and at the end."""
    predict(hq, tmp_path / "pairs")
    told = LINE.findall(capsys.readouterr().err)
    assert [(line[0], line[1]) for line in told] == [("4", "9"), ("9", "9")]


def test_a_bar_on_a_terminal(hq, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    predict(hq, tmp_path / "pairs")
    said = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert re.search(r"rank 0 .*9/9 pairs 0:00:\d\d 0:00:00 \d+\.\d\d pairs/s, 0 in the queue", said)
    assert not LINE.search(said)


@pytest.mark.parametrize("wanted", [True, False])
def test_the_command_line_shows_it_unless_told_not_to(hq, tmp_path, capsys, wanted):
    words = "predict --config pairs_natural.yaml --model.t_max 0 --model.degradation bicubic --model.threads 1"
    words += f" --trainer.accelerator cpu --data.num_workers 0 --trainer.enable_progress_bar {str(wanted).lower()}"
    assert main([*words.split(), "--data.hq_dir", str(hq), "--output_dir", str(tmp_path / "pairs")]) == 0
    assert bool(LINE.search(capsys.readouterr().err)) is wanted
