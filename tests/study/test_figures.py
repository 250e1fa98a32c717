import math
import re
from dataclasses import replace

import numpy as np
import pytest
import study_of_noise
import torch
from html_outline import Outline
from PIL import Image

from ddpm_pairs.metrics.set_scores import SetScores
from ddpm_pairs.study.figures import GRID_TILE, panel_figure, panels_as_svg, panels_of, save_grid, save_plot
from ddpm_pairs.study.folder import stack
from ddpm_pairs.study.recommendation import recommend
from ddpm_pairs.study.sets import RealSet

REAL = RealSet(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), {}, SetScores(7.5, 0.75, 0.0075, (0.0, 0.0)))
HOSTILE = "</svg><script>alert('x')</script> $\\frac{ _a \x1b"


def chosen(cells):
    return recommend(cells, 2.0, None, 0.0075, "{} {}".format)


def panels(cells):
    return panels_of(cells, REAL, chosen(cells))


def test_panels_hold_the_scores_of_the_cells():
    cells = study_of_noise.cells()
    kid, fid192, fid, psnr = panels(cells[::-1])
    assert [curve.name for curve in kid.curves] == ["rough", "mild"]
    assert kid.curves[0].ts == (0, 50, 100)
    assert kid.curves[0].values == (0.05, 0.0125, 0.04)
    assert fid192.curves[1].values == (6.0, 3.0, 2.0)
    assert fid.curves[1].values == (60.0, 30.0, 20.0)
    assert [(curve.name, curve.median) for curve in psnr.curves] == [
        *(("rough", False), ("mild", False)),
        *(("rough", True), ("mild", True)),
    ]
    assert psnr.curves[3].values == (24.0, 23.0, 21.0)
    assert [panel.level[1] for panel in (kid, fid192, fid, psnr)] == [0.0075, 0.75, 7.5, 24.0]
    assert {panel.mark for panel in (kid, fid192, fid, psnr)} == {50}


def test_markers_of_the_page_are_where_their_values_say():
    outline = Outline(panels_as_svg(panels(study_of_noise.cells()))[0])
    marks = [one for one in outline.elements if one.tag == "use" and float(one.attributes["x"]) > 0]
    tips = [one.text for one in outline.all("title")]
    drawn = [one for one in marks if one.text]
    assert [one.text for one in drawn] == tips
    places = {one.text: (float(one.attributes["x"]), float(one.attributes["y"])) for one in drawn}
    xs = [places[f"mild, t = {t}: KID {value}"][0] for t, value in ((0, 0.06), (50, 0.03), (100, 0.02))]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1])
    ys = [places[f"rough, t = {t}: KID {value}"][1] for t, value in ((0, 0.05), (50, 0.0125), (100, 0.04))]
    assert (ys[1] - ys[0]) / (ys[1] - ys[2]) == pytest.approx((0.05 - 0.0125) / (0.04 - 0.0125), rel=1e-4)


def test_an_infinite_psnr_is_a_gap():
    cells = [replace(cell, psnr=math.inf) if cell.t == 0 else cell for cell in study_of_noise.cells()]
    tips = [one.text for one in Outline(panels_as_svg(panels(cells))[3]).all("title")]
    assert "mild, t = 50: PSNR 24" in tips
    assert not any(tip.startswith("mild, t = 0: PSNR") for tip in tips)
    nothing = [replace(cell, psnr=math.inf, psnr_median=math.inf) for cell in cells]
    assert not Outline(panels_as_svg(panels(nothing))[3]).all("title")


def test_hostile_and_long_names_are_text_in_plot_and_page(tmp_path):
    names = {"mild": HOSTILE, "rough": "runs/" * 30 + "last.ckpt"}
    cells = [replace(cell, degradation=names[cell.degradation]) for cell in study_of_noise.cells()]
    save_plot(tmp_path / "plot.png", cells, REAL, chosen(cells))
    for svg in panels_as_svg(panels(cells)):
        outline = Outline(svg)
        assert not outline.all("script")
        texts = [one.text for one in outline.all("text")]
        assert (
            HOSTILE.replace("\x1b", "\ufffd")[:18] in "".join(texts) and "$\\frac{ _a \ufffd" in texts[-3] + texts[-4]
        )
        assert any("…" in text and text.endswith("last.ckpt") for text in texts)


@pytest.mark.parametrize("length", [4, 16, 17, 60])
@pytest.mark.parametrize("count", [1, 8])
def test_the_legend_leaves_room_for_the_curves(length, count):
    cells = [
        replace(cell, degradation=f"{number}{'n' * (length - 1)}", scores=replace(cell.scores, kid=-1e-5))
        for number in range(count)
        for cell in study_of_noise.cells()[:3]
    ]
    for panel in panels(cells):
        figure, _ = panel_figure(panel)
        figure.draw_without_rendering()
        (axes,) = figure.axes
        extent = axes.get_legend().get_window_extent()
        assert extent.x0 >= 0 and extent.x1 <= figure.bbox.x1 and extent.y0 >= 0
        assert extent.y1 <= axes.xaxis.label.get_window_extent().y0
        assert axes.bbox.width > 0.75 * figure.bbox.width
        assert axes.bbox.height > 2.3 * figure.dpi


def test_the_page_and_the_plot_are_the_same_every_time(tmp_path):
    cells = study_of_noise.cells()
    assert panels_as_svg(panels(cells)) == panels_as_svg(panels(cells))
    for name in ("a.png", "b.png"):
        save_plot(tmp_path / name, cells, REAL, chosen(cells))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    text = "".join(panels_as_svg(panels(cells)))
    ids = re.findall(r' id="([^"]*)"', text)
    assert ids and len(ids) == len(set(ids))


def test_the_grid_shows_hq_and_lq_of_evenly_spaced_images(tmp_path):
    results = study_of_noise.pictures(11)
    save_grid(tmp_path / "grid.png", stack(results), study_of_noise.STARTS, study_of_noise.TS)
    with Image.open(tmp_path / "grid.png") as read:
        sheet = np.asarray(read)
    enlarged = GRID_TILE // 8
    for row, (number, d) in enumerate([(0, 0), (0, 1), (2, 0), (2, 1)]):
        top = 24 + 22 + row * (GRID_TILE + 8 + 22)
        for column in range(3):
            lq = results[number].patches[d, column].permute(1, 2, 0).numpy()
            left = 24 + (column + 1) * (GRID_TILE + 8)
            shown = sheet[top : top + GRID_TILE, left : left + GRID_TILE]
            assert np.array_equal(shown, lq.repeat(enlarged, 0).repeat(enlarged, 1))
