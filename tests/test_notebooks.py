"""Every notebook runs from top to bottom, without a kernel, on tiny data."""

import json
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

TINY = {
    "03_train_restorer": {
        "pictures": {"train": 6, "test": 2},
        "side": 64,
        "crop_size": 32,
        "batch_size": 4,
        "channels": 8,
        "blocks": 1,
        "steps": 4,
    }
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
    namespace = {"__name__": "__main__"}
    for number, cell in enumerate(cells(path)):
        if cell["cell_type"] == "code":
            exec(compile(source(cell), f"{path.name}, cell {number}", "exec"), namespace)
            if "parameters" in cell["metadata"].get("tags", []):
                assert parameters.keys() <= namespace.keys()
                namespace.update(parameters)
    plt.close("all")
    return namespace


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore:FigureCanvasAgg is non-interactive")
def test_notebook_runs_on_tiny_data(path, tmp_path, monkeypatch):
    tagged = [cell for cell in cells(path) if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    left = run(path, TINY[path.stem], tmp_path, monkeypatch)
    if path.stem == "03_train_restorer":
        assert len(left["losses"]) == 4 and left["evaluation"].result.n == 2
        assert len(list((left["root"] / "restored").rglob("*.png"))) == 2


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
