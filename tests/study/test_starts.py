"""The table of starts: ``lightning test --config table3.yaml``."""

import csv
import math
import shlex

import numpy as np
import pytest
import skimage.data
from PIL import Image
from tiny_ddpm import save_safetensors, tiny_denoiser

from ddpm_pairs.cli.main import main
from ddpm_pairs.metrics.set_scores import SetScores
from ddpm_pairs.study.cells import Cell
from ddpm_pairs.study.starts.rows import rows_of, share_of_way


def cell(degradation, t, kid, psnr=25.0, fid=None):
    scores = SetScores(kid if fid is None else fid, kid, kid, (kid, kid))
    return Cell(degradation, t, None, scores, 1.0, (0.0, 0.0), psnr, psnr, 10)


FLOOR = SetScores(1.0, 1.0, 1.0, (1.0, 1.0))
CELLS = [
    cell("mild", 0, 9.0),
    cell("mild", 50, 3.0, 24.0),
    cell("mild", 100, 2.0, 22.0),  # 3 dB below its start
    cell("rough", 0, 5.0),
    cell("rough", 50, 6.0),
    cell("rough", 100, 4.0),
]
TIMES = {(one.degradation, one.t): 10.0 + one.t for one in CELLS}


def chosen(reference="rough", limits=(2.0, None), cells=CELLS):
    return rows_of(cells, FLOOR, reference, limits, TIMES)


def test_each_degradation_has_a_row_as_it_is_and_its_best_walk_that_keeps_the_content():
    assert [(row.cell.degradation, row.cell.t, row.walked) for row in chosen()] == [
        ("mild", 0, False), ("mild", 50, True), ("rough", 0, False), ("rough", 100, True)
    ]  # fmt: skip
    assert [row.cell.t for row in chosen(limits=(None, None))] == [0, 100, 0, 100]
    assert [row.milliseconds for row in chosen()] == [10.0, 60.0, 10.0, 110.0]


def test_the_best_walk_is_shown_even_if_none_keeps_the_content():
    assert [row.cell.t for row in chosen(limits=(0.0, 30.0))] == [0, 100, 0, 100]


def test_without_a_walk_there_is_one_row():
    assert [row.cell.t for row in chosen(cells=[one for one in CELLS if one.t == 0])] == [0, 0]


def test_shares_count_from_the_reference_to_the_floor():
    assert [row.shares["kid"] for row in chosen()] == [(5 - 9) / 4, (5 - 3) / 4, 0.0, (5 - 4) / 4]
    assert [row.shares["fid192"] for row in chosen("mild")] == [0.0, 6 / 8, 4 / 8, 5 / 8]
    assert math.isnan(share_of_way(1.0, 2.0, 1.0)) and share_of_way(4.0, 1.0, 2.0) == 1.5


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, photo, n, side in (("hq", skimage.data.astronaut(), 5, 128), ("lq", skimage.data.coffee(), 8, 40)):
        (tmp_path / name).mkdir()
        for number in range(n):
            pixels = photo[30 * number :][:side, 30 * number :][:, :side]
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    save_safetensors(tiny_denoiser(), tmp_path / "tiny.safetensors")
    return tmp_path


WORDS = shlex.split(
    "test --config table3.yaml --ckpt_path tiny.safetensors --data.hq_dir hq --data.lq_dir lq --data.num_workers 0 "
    "--model.degradations '[real_esrgan, bicubic]' --model.ts [0,10,30] --model.patch 24 --model.features random "
    "--model.threads 1 --model.precision fp32 --trainer.accelerator cpu --trainer.enable_progress_bar false "
    "--output_dir out"
)


def rows(folder, name):
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_repeats_cells_of_the_t_study(place, capsys):
    assert main(WORDS) == 0
    cells = {(row["degradation"], row["t"]): row for row in rows(place / "out", "ablation.csv")}
    table = rows(place / "out", "starts.csv")
    assert [row["degradation"] for row in table] == ["real_esrgan"] * 2 + ["bicubic"] * 2 + ["real vs real"]
    for row in table[:-1]:
        same = cells[row["degradation"], row["t"]]
        assert {name: row[name] for name in ("fid", "kid", "fid192", "psnr", "chroma_noise", "n")} == {
            name: same[name] for name in ("fid", "kid", "fid192", "psnr", "chroma_noise", "n")
        }
        assert float(row["milliseconds"]) > 0
    assert float(table[0]["share_kid"]) == 0 and table[0]["t"] == table[2]["t"] == "0"
    assert table[-1]["fid"] == rows(place / "out", "ablation.csv")[0]["floor_fid"]
    names = ["HQ", "real_esrgan", f"real_esrgan, t = {table[1]['t']}", "bicubic", f"bicubic, t = {table[3]['t']}"]
    page = (place / "out" / "starts.html").read_text()
    assert all(name in page for name in names)
    width = np.asarray(Image.open(place / "out" / "starts_grid.png")).shape[1]
    assert width > 6 * 192  # HQ, four rows and a real patch
    assert "way by KID" in capsys.readouterr().out


def test_a_finished_study_is_not_made_again(place):
    assert main(WORDS) == 0
    made = {path: path.stat().st_mtime_ns for path in (place / "out" / "pictures").iterdir()}
    first = rows(place / "out", "starts.csv")
    assert main(WORDS) == 0
    assert {path: path.stat().st_mtime_ns for path in (place / "out" / "pictures").iterdir()} == made
    again = rows(place / "out", "starts.csv")
    assert [{**row, "milliseconds": ""} for row in again] == [{**row, "milliseconds": ""} for row in first]


def test_an_unknown_reference_is_refused(place, capsys):
    assert main([*WORDS, "--model.reference", "bsrgan"]) == 2
    assert "--model.reference: got 'bsrgan'; expected one of real_esrgan, bicubic" in capsys.readouterr().err
