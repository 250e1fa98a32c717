"""Every notebook runs from top to bottom, without a kernel, on tiny data."""

import json
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

from ddpm_pairs.diffusion import load_denoiser
from ddpm_pairs.shipped import weights_file

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

TINY = {
    "01_train_ddpm": {
        "pictures": {"train": 6, "test": 4},
        "side": 32,
        "crop_size": 16,
        "batch_size": 4,
        "steps": 3,
        "ts": [5, 20],
        "walked": 2,
    },
    "02_make_pairs": {"pictures": 4, "side": 128, "t_min": 5, "t_max": 10},
    "03_train_restorer": {
        "pictures": {"train": 6, "test": 2},
        "side": 64,
        "crop_size": 32,
        "batch_size": 4,
        "channels": 8,
        "blocks": 1,
        "steps": 4,
    },
    "04_choose_t": {"pictures": {"hq": 4, "lq": 8}, "side": 128, "patch": 32, "ts": [5]},
}
"""In place of what the cell tagged `parameters` sets, by notebook."""


def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def source(cell):
    return "".join(cell["source"])


def run(path, parameters, tmp_path, monkeypatch):
    """Execute the code cells; the namespace that they leave."""
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for folder in ("DDPM_PAIRS_WEIGHTS", "TORCH_HOME"):  # where there are no weights, alike on all machines
        monkeypatch.setenv(folder, str(tmp_path / "nothing"))
    namespace = {"__name__": "__main__"}
    for number, cell in enumerate(cells(path)):
        if cell["cell_type"] == "code":
            exec(compile(source(cell), f"{path.name}, cell {number}", "exec"), namespace)
            if "parameters" in cell["metadata"].get("tags", []):
                assert parameters.keys() <= namespace.keys()
                namespace.update(parameters)
    plt.close("all")
    return namespace


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore:FigureCanvasAgg is non-interactive")
def test_notebook_runs_on_tiny_data(path, tmp_path, monkeypatch):
    tagged = [cell for cell in cells(path) if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    left = run(path, TINY[path.stem], tmp_path, monkeypatch)
    assert list(tmp_path.iterdir()) == [left["root"]]
    CHECKS[path.stem](left)


def check_ddpm(left):
    assert len(left["losses"]) == 3
    assert left["before"].keys() == left["after"].keys() and left["before"] != left["after"]
    shipped, trained = load_denoiser(weights_file("blind_camera")).state_dict(), left["model"].denoiser().state_dict()
    saved = load_denoiser(left["checkpoint"]).state_dict()
    assert all(torch.equal(saved[name], trained[name]) for name in trained)
    assert not all(torch.equal(shipped[name], trained[name]) for name in trained)
    back = left["back"]
    assert list(back) == [(name, t) for name in ("blind_camera", "trained") for t in (5, 20)]
    for name in ("blind_camera", "trained"):
        near, far = ((back[name, t] - left["real"]).square().mean() for t in (5, 20))
        assert 0 < near < far
    assert [row.name for row in left["gap"].rows] == [f"{name}, t = {t}" for name, t in back]


def check_pairs(left):
    folder = left["root"] / "pairs"
    assert len(left["records"]) == 4 and all(5 <= record["t"] <= 10 for record in left["records"])
    for record, start, lq in zip(left["records"], *left["sets"].values(), strict=True):
        assert start.shape == lq.shape == (3, 32, 32) and not torch.equal(start, lq)
        assert (folder / record["hq"]).is_file()
    assert left["same"] and left["key"] == left["records"][-1]["key"]
    assert left["gap"].rows[0].chroma_noise != left["gap"].rows[1].chroma_noise


def check_restorer(left):
    assert len(left["losses"]) == 4 and left["evaluation"].result.n == 2
    assert len(list((left["root"] / "restored").rglob("*.png"))) == 2


def check_study(left):
    assert left["features"] == "random"
    cells = {(row["degradation"], int(row["t"])): row for row in left["rows"]}
    assert list(cells) == [(start, t) for start in ("bicubic", "classical") for t in (0, 5)]
    allowed = [
        (max(float(row["kid"]), float(row["floor_kid"])), float(row["fid192"]))
        for (start, _), row in cells.items()
        if float(row["psnr_median"]) >= float(cells[start, 0]["psnr_median"]) - 2
    ]
    chosen = left["chosen"]
    best = cells[chosen.degradation, chosen.t]
    assert (max(float(best["kid"]), float(best["floor_kid"])), float(best["fid192"])) == min(allowed)
    assert (left["root"] / "study" / "grid.png").is_file()


CHECKS = {
    "01_train_ddpm": check_ddpm,
    "02_make_pairs": check_pairs,
    "03_train_restorer": check_restorer,
    "04_choose_t": check_study,
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_restorer_of_the_notebook_beats_enlarging(tmp_path, monkeypatch):
    result = run(FOLDER / "03_train_restorer.ipynb", {}, tmp_path, monkeypatch)["evaluation"].result
    assert result.values["psnr"] > result.input_values["psnr"] + 0.1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_small_and_names_no_machine(path):
    text = path.read_text(encoding="utf-8")
    assert len(text) < 20_000
    assert not any(place in text for place in ("/home/", "/work/", "/Users/", "/tmp/"))
    identifiers = [cell["id"] for cell in cells(path)]
    assert len(set(identifiers)) == len(identifiers)
    for cell in cells(path):
        if cell["cell_type"] == "code":
            assert len(json.dumps(cell["outputs"])) < 4000
