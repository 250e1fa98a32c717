import json

import pytest
from html_outline import Outline

from ddpm_pairs.reports.html.browser import Shown, Stage, browser, spread, within_budget

HOSTILE = "\"></script><script>alert('x')</script><!--.png"


def stage(number, size=10):
    return Stage(str(number), f"t = {number}", f"{number} dB", f"data:image/png;base64,{number:0{size}}")


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [
        (3, 5, [0, 1, 2]),
        (5, 5, [0, 1, 2, 3, 4]),
        (9, 3, [0, 4, 8]),
        (300, 4, [0, 100, 199, 299]),
        (7, 1, [0]),
        (1, 12, [0]),
        (23, 12, [*range(0, 23, 2)]),
    ],
)
def test_spread(count, most, expected):
    assert spread(count, most) == expected


def test_as_many_as_fit_are_kept_evenly_spread():
    pictures = [Shown(str(n), (1, 1), ((stage(n, 78),),)) for n in range(9)]  # of 100 bytes each
    assert len(pictures[0].rows[0][0].uri) == 100
    names = {budget: [one.name for one in within_budget(pictures, budget)] for budget in (900, 899, 350, 10)}
    assert names[900] == [str(n) for n in range(9)]
    assert len(names[899]) == 8
    assert names[350] == ["0", "4", "8"]
    assert names[10] == ["0"]


def test_a_picture_that_stands_in_several_rows_is_embedded_once():
    hq = stage(1)
    pictures = [Shown("a", (2, 3), ((hq, stage(2)), (hq, stage(3))))]
    assert within_budget([*pictures, *pictures], 2 * 3 * 32)[1:] == pictures
    data = json.loads(Outline(browser(pictures, ["x", "y"], 0, 1)).one("script").text)
    assert data["images"] == [hq.uri, stage(2).uri, stage(3).uri]
    assert data["pictures"][0]["rows"] == [
        [["t = 1", "1 dB", 0], ["t = 2", "2 dB", 1]],
        [["t = 1", "1 dB", 0], ["t = 3", "3 dB", 2]],
    ]


def test_every_control_has_a_label_and_hostile_names_stay_text():
    pictures = [Shown(HOSTILE, (4, 6), ((stage(0), stage(10), stage(20)),) * 2, group) for group in (HOSTILE, "b")]
    outline = Outline(browser(pictures, [HOSTILE, "other"], 1, 2))
    labelled = {one.attributes["for"] for one in outline.all("label")}
    for control in outline.all("select") + outline.all("input"):
        assert control.attributes.get("id") in labelled or control.attributes.get("aria-label")
    for button in outline.all("button"):
        assert button.attributes["aria-label"]
    assert len(outline.all("script")) == 1
    assert [one.attributes["label"] for one in outline.all("optgroup")] == [HOSTILE, "b"]
    assert [one.text for one in outline.all("option")][:3] == [HOSTILE, HOSTILE, HOSTILE]
    data = json.loads(outline.one("script").text)
    assert [one["name"] for one in data["pictures"]] == [HOSTILE, HOSTILE]
    assert outline.one("div", class_="view").attributes["style"] == "aspect-ratio: 6 / 4"


def test_two_stages_of_one_start_need_no_slider():
    outline = Outline(browser([Shown("a", (1, 1), ((stage(0), stage(1)),))], [""], 0, 1))
    assert [one.attributes["data-part"] for one in outline.all("select")] == ["picture"]
    assert [one.attributes["data-part"] for one in outline.all("input")] == ["divider"]


def test_the_slider_names_ten_stages_or_so():
    row = tuple(stage(n) for n in range(31))
    outline = Outline(browser([Shown("a", (1, 1), (row,))], [""], 0, 1))
    slider = outline.one("input", id="stage").attributes
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "30", "1")
    ticks = [one for one in outline.all("span") if one.attributes.get("style", "").startswith("--at")]
    assert [one.text for one in ticks] == ["0", "4", "8", "12", "16", "20", "24", "28", "30"]
