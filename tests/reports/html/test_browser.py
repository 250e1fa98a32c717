import json

from html_outline import Outline

from ddpm_pairs.reports.html.browser import Browser, Item, Stage, within_budget
from ddpm_pairs.reports.html.templates import environment

HOSTILE = "\"'></script><script>alert('x')</script><!--\u2028数.png"


def stage(number, size=10):
    return Stage(str(number), f"t = {number}", f"{number} dB", f"data:image/png;base64,{number:0{size}}")


def rendered(*arguments):
    macro = environment().get_template("reports/html/browser.html.j2").module.browser
    return Outline(macro(Browser(*arguments)))


def test_as_many_as_fit_are_kept_evenly_spaced():
    items = [Item(str(n), (1, 1), ((stage(n, 78),),)) for n in range(9)]  # of 100 bytes each
    assert len(items[0].rows[0][0].uri) == 100
    names = {budget: [one.name for one in within_budget(items, budget)] for budget in (900, 899, 350, 10)}
    assert names[900] == [str(n) for n in range(9)]
    assert len(names[899]) == 8
    assert names[350] == ["0", "4", "8"]
    assert names[10] == ["0"]


def test_an_image_of_several_rows_is_embedded_once():
    hq = stage(1)
    items = [Item("a", (2, 3), ((hq, stage(2)), (hq, stage(3))))]
    assert within_budget([*items, *items], 2 * 3 * 32)[1:] == items
    data = json.loads(rendered(items, ["x", "y"], 0, 1).one("script").text)
    assert data["uris"] == [hq.uri, stage(2).uri, stage(3).uri]
    assert data["items"][0]["rows"] == [
        [["t = 1", "1 dB", 0], ["t = 2", "2 dB", 1]],
        [["t = 1", "1 dB", 0], ["t = 3", "3 dB", 2]],
    ]


def test_every_control_has_a_label_and_hostile_names_stay_text():
    hostile = Stage(HOSTILE, HOSTILE, HOSTILE, f"data:{HOSTILE}")
    items = [Item(HOSTILE, (4, 6), ((stage(0), hostile, stage(20)),) * 2, group) for group in (HOSTILE, "b")]
    outline = rendered(items, [HOSTILE, "other"], 1, 1)
    labelled = {one.attributes["for"] for one in outline.all("label")}
    for control in outline.all("select") + outline.all("input"):
        assert control.attributes.get("id") in labelled or control.attributes.get("aria-label")
    for button in outline.all("button"):
        assert button.attributes["aria-label"]
    assert len(outline.all("script")) == 1
    assert [one.attributes["label"] for one in outline.all("optgroup")] == [HOSTILE, "b"]
    assert [one.text for one in outline.all("option")][:3] == [HOSTILE, HOSTILE, HOSTILE]
    assert [one.attributes["alt"] for one in outline.all("img")] == [
        f"{HOSTILE}, right of the divider",
        "t = 0, left of the divider",
    ]
    assert outline.all("img")[0].attributes["src"] == f"data:{HOSTILE}"
    data = json.loads(outline.one("script").text)
    assert [one["name"] for one in data["items"]] == [HOSTILE, HOSTILE]
    assert data["items"][0]["rows"][0][1][:2] == [HOSTILE, HOSTILE]
    assert outline.one("div", class_="view").attributes["style"] == "aspect-ratio: 6 / 4"


def test_the_row_and_the_stage_shown_first_are_chosen():
    outline = rendered([Item("a", (1, 1), ((stage(0), stage(1), stage(2)),) * 2)], ["x", "y"], 1, 2)
    assert outline.one("select", id="row")
    assert [one.text for one in outline.all("option") if "selected" in one.attributes] == ["a", "y", "t = 0"]
    assert (
        outline.one("span", data_part="right-tag").text == outline.one("span", data_part="stage-name").text == "t = 2"
    )


def test_two_stages_of_one_degradation_need_no_slider():
    outline = rendered([Item("a", (1, 1), ((stage(0), stage(1)),))], [""], 0, 1)
    assert [one.attributes["data-part"] for one in outline.all("select")] == ["item"]
    assert [one.attributes["data-part"] for one in outline.all("input")] == ["divider"]


def test_the_slider_names_about_ten_stages():
    row = tuple(stage(n) for n in range(31))
    outline = rendered([Item("a", (1, 1), (row,))], [""], 0, 1)
    slider = outline.one("input", id="stage").attributes
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "30", "1")
    ticks = [one for one in outline.all("span") if one.attributes.get("style", "").startswith("--at")]
    assert [one.text for one in ticks] == ["0", "4", "8", "12", "16", "20", "24", "28", "30"]
