import math
import re

import pytest
from html_outline import Outline

from ddpm_pairs.reports.html.charts import BOTTOM, LEFT, RIGHT, TOP, Series, line_chart, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (19.7, 24.1, [19, 20, 21, 22, 23, 24, 25]),
        (0, 0.0168, [0, 0.005, 0.01, 0.015, 0.02]),
        (-3, 3, [-4, -2, 0, 2, 4]),
        (7, 7, [6.4, 6.6, 6.8, 7.0, 7.2, 7.4, 7.6]),
    ],
)
def test_ticks_are_round_and_cover(low, high, expected):
    found = ticks(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    if low < high:
        assert found == pytest.approx(expected)


def chart(**words):
    series = [Series("mild", ((0, 0.0), (50, 40.0), (100, 100.0)), 0), Series("<b>", ((0, 20.0), (100, 60.0)), 1, True)]
    return Outline(line_chart("FID & more", "t, steps", "FID", series, **words))


def test_points_lie_where_their_values_say():
    width, height = RIGHT - LEFT, BOTTOM - TOP
    curves = [one.attributes["d"] for one in chart().all("path", class_="curve") if one.path.count("g") == 1]
    places = [[tuple(map(float, place.split())) for place in re.split("[ML]", d)[1:]] for d in curves]
    assert places[0] == [
        pytest.approx(place, abs=0.06)
        for place in [(LEFT, BOTTOM), (LEFT + width / 2, BOTTOM - 0.4 * height), (RIGHT, TOP)]
    ]
    assert places[1] == [
        pytest.approx(place, abs=0.06) for place in [(LEFT, BOTTOM - 0.2 * height), (RIGHT, BOTTOM - 0.6 * height)]
    ]


def test_points_tell_their_values_and_the_legend_the_names():
    outline = chart(level=("real against real", 30.0), mark=("recommended t", 50))
    titles = [one.text for one in outline.all("title")]
    assert titles == ["mild, t = 0: 0", "mild, t = 50: 40", "mild, t = 100: 100", "<b>, t = 0: 20", "<b>, t = 100: 60"]
    assert [one.text for one in outline.all("li")] == ["mild", "<b>", "recommended t", "real against real, 30"]
    groups = [one.attributes["class"] for one in outline.all("g") if "class" in one.attributes]
    assert groups == ["c0", "c1 dashed"]
    assert outline.one("svg", role="img").attributes["aria-label"] == "FID & more: FID over t, steps"
    middle, third = (LEFT + RIGHT) / 2, BOTTOM - 0.3 * (BOTTOM - TOP)
    assert outline.one("path", class_="mark").attributes["d"] == f"M{middle:.1f} {TOP}V{BOTTOM}"
    assert outline.one("path", class_="level").attributes["d"] == f"M{LEFT} {third:.1f}H{RIGHT}"
    assert [one.text for one in outline.all("text", class_="x")] == ["0", "20", "40", "60", "80", "100"]


def test_what_is_not_finite_is_a_gap():
    series = [Series("a", ((0, 1.0), (1, math.nan), (2, 2.0), (3, math.inf), (4, 3.0), (5, 3.0)), 0)]
    outline = Outline(line_chart("x", "t", "y", series))
    (curve,) = [one.attributes["d"] for one in outline.all("path", class_="curve") if "g" in one.path]
    assert re.sub("[^ML]", "", curve) == "MMML"
    assert len(outline.all("title")) == 4


def test_the_axis_can_begin_at_zero():
    series = [Series("a", ((0, 90.0), (1, 100.0)), 0)]
    lowest = [
        Outline(line_chart("x", "t", "y", series, from_zero=zero)).all("text", class_="y")[0].text
        for zero in (False, True)
    ]
    assert lowest == ["90", "0"]
