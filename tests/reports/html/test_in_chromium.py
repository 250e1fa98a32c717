"""The reports as a user has them: opened from disk in a browser."""

import base64
import json

import pytest
import study_of_noise
from headless_chromium import Chromium, find_chromium

from ddpm_pairs.images.find import Failure
from ddpm_pairs.reports.scoring.report import score_report
from ddpm_pairs.reports.scoring.scores import Scores

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium: install one, such as Debian's package chromium"),
]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    found = Chromium(find_chromium(), tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "report.html"
    path.write_text(study_of_noise.report(study_of_noise.pictures(5, "a-name-that-is-long-" * 6 + "{}")), "utf-8")
    return path


@pytest.fixture
def opened(chromium, study):
    chromium.open(study, width=1280)
    yield chromium
    assert chromium.complaints() == []
    assert chromium.requests() == [study.resolve().as_uri()]


def image(chromium, side):
    """Name, and PNG bytes, of what stands on a side of the divider."""
    name = chromium.value(f"document.querySelector('[data-part={side}-tag]').textContent")
    uri = chromium.value(f"document.querySelector('[data-part={side}]').src")
    return name, base64.b64decode(uri.partition(",")[2])


def embedded(chromium, item, row, stage):
    data = json.loads(chromium.value("document.querySelector('[data-browser] script').textContent"))
    return base64.b64decode(data["uris"][data["items"][item]["rows"][row][stage][2]].partition(",")[2])


def test_arrow_keys_walk_along_t(opened):
    assert image(opened, "left") == ("HQ", embedded(opened, 0, 1, 0))
    assert image(opened, "right") == ("t = 50", embedded(opened, 0, 1, 2))  # what is recommended
    opened.value("document.querySelector('#stage').focus()")
    opened.press("ArrowRight")
    assert image(opened, "right") == ("t = 100", embedded(opened, 0, 1, 3))
    assert "18.00 dB" in opened.value("document.querySelector('#stage').getAttribute('aria-valuetext')")
    assert "t = 100 (18.00 dB) on the right" in opened.value(
        "document.querySelector('[data-part=caption]').textContent"
    )
    opened.press("Home")
    assert image(opened, "right") == ("HQ", embedded(opened, 0, 1, 0))
    assert opened.value("document.querySelector('[data-part=right]').naturalWidth") == 32


def test_image_degradation_and_left_side_are_chosen(opened):
    opened.value("document.querySelector('[data-step=\"-1\"]').click()")
    assert image(opened, "right") == ("t = 50", embedded(opened, 4, 1, 2))
    for part, value in (("row", 0), ("before", 1), ("item", 2)):
        opened.value(
            f"(() => {{ const list = document.querySelector('#{part}'); list.value = {value};"
            "list.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )
    assert image(opened, "left") == ("initial LQ", embedded(opened, 2, 0, 1))
    assert image(opened, "right") == ("t = 50", embedded(opened, 2, 0, 2))


DIVIDER = """(() => {
  const view = document.querySelector('.view').getBoundingClientRect();
  const handle = document.querySelector('.handle').getBoundingClientRect();
  return [(handle.left + handle.width / 2 - view.left) / view.width,
          getComputedStyle(document.querySelector('[data-part=left]')).clipPath];
})()"""


def test_the_divider_moves_by_keyboard_and_by_dragging(opened):
    place, clip = opened.value(DIVIDER)
    assert place == pytest.approx(0.5, abs=0.001)
    opened.value("document.querySelector('.divider').focus()")
    for _ in range(10):
        opened.press("ArrowLeft")
    place, moved = opened.value(DIVIDER)
    assert place == pytest.approx(0.4, abs=0.001)
    assert moved != clip
    opened.value("document.querySelector('.view').scrollIntoView({block: 'center'})")
    left, top, width, height = opened.value(
        "(() => { const v = document.querySelector('.view').getBoundingClientRect();"
        "return [v.left, v.top, v.width, v.height]; })()"
    )
    middle = top + height / 3
    opened.drag((left + 0.4 * width, middle), (left + 0.8 * width, middle))
    place, _ = opened.value(DIVIDER)
    assert place == pytest.approx(0.8, abs=0.01)


def test_the_focus_is_seen(opened):
    opened.value("document.querySelector('h1').focus()")
    reached = set()
    for _ in range(9):
        opened.press("Tab")
        name, seen = opened.value(
            "(() => { const one = document.activeElement; const divider = one.classList.contains('divider');"
            "const style = getComputedStyle(divider ? one.parentElement : one);"
            "return [one.dataset.part ?? one.tagName, style.outlineStyle + ' ' + style.outlineWidth]; })()"
        )
        assert seen == "solid 3px", name
        reached.add(name)
    assert {"divider", "stage", "item", "SUMMARY", "DIV", "BUTTON"} <= reached


def test_pixels_stay_square(opened):
    for side in ("left", "right"):
        style = f"getComputedStyle(document.querySelector('[data-part={side}]')).imageRendering"
        assert opened.value(style) == "pixelated"


def test_curves_follow_the_color_scheme(chromium, study):
    drawn = {}
    for dark in (False, True):
        chromium.open(study, width=1280, dark=dark)
        drawn[dark] = chromium.value(
            "(() => { const curve = document.querySelectorAll('.chart svg')[0].querySelector('use:has(title)');"
            "const text = document.querySelector('.chart svg text'); const card = document.querySelector('section');"
            "return [getComputedStyle(curve).fill, getComputedStyle(text).fontFamily == "
            "getComputedStyle(document.body).fontFamily, getComputedStyle(card).backgroundColor]; })()"
        )
        assert chromium.complaints() == []
    assert drawn[False] == ["rgb(11, 98, 184)", True, "rgb(255, 255, 255)"]
    assert drawn[True] == ["rgb(108, 178, 255)", True, "rgb(26, 30, 35)"]


def test_a_hostile_script_would_not_run_even_if_it_broke_out(chromium, study, tmp_path):
    broken = tmp_path / "broken.html"
    text = study.read_text("utf-8").replace("</main>", "<script>document.title = 'owned'</script></main>")
    broken.write_text(text, encoding="utf-8")
    chromium.open(broken, width=1280)
    assert chromium.value("document.title") == "The t study"
    assert image(chromium, "left")[0] == "HQ"  # our own script ran


WIDE = """[...document.querySelectorAll('body *')].filter((one) => !one.closest('.scroll, .view, svg') &&
  one.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map((one) => one.outerHTML)"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_s_width_is_enough(chromium, study, tmp_path, dark):
    scores = Scores(values={"fid": 12.0}, n=4, settings={"inception": "x" * 200}, failures=[Failure("y" * 200, "z")])
    other = tmp_path / "report.html"
    other.write_text(score_report(scores), encoding="utf-8")
    for path in (study, other):
        chromium.open(path, width=360, dark=dark)
        widths = chromium.value("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert widths[0] <= widths[1]
        assert chromium.value(WIDE) == []
        assert chromium.complaints() == []
    assert chromium.value("getComputedStyle(document.body).backgroundColor") == (
        "rgb(18, 21, 24)" if dark else "rgb(247, 248, 249)"
    )
    assert chromium.value("document.querySelector('.scroll').scrollWidth > innerWidth - 60")
