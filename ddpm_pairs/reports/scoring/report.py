"""The scores of ``ddpm-pairs score`` as one HTML file."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from ddpm_pairs.images.decode import decode_picture
from ddpm_pairs.images.find import Picture
from ddpm_pairs.reports.html.browser import Shown, Stage, browser, within_budget
from ddpm_pairs.reports.html.page import distance, number, page, paragraph, png_uri, section, settings, table

if TYPE_CHECKING:  # the scores' own module writes this report
    from ddpm_pairs.reports.scoring.scores import Scores

MOST, SIDE = 12, 256
"""Pairs in the browser, and the side in pixels that their centres are cut to."""

FAILURES_SHOWN = 100

_NAMES = {"fid": "FID", "fid192": "fid192", "kid": "KID", "lpips": "LPIPS", "psnr": "PSNR, dB", "ssim": "SSIM"}
_HIGHER = ("psnr", "ssim")
_GROUPS = ("Worst", "Around the median", "Best")


def score_report(scores: "Scores") -> str:
    """The scores as a page; with paired scores, pictures can be compared with their references."""
    sections = [section("scores", "Scores", _table(scores), *_notes(scores), settings(scores.settings, unfolded=True))]
    if scores.files:
        sections.append(_pictures(scores))
    if scores.failures:
        shown = scores.failures[:FAILURES_SHOWN]
        rows = [[failure.source, failure.reason] for failure in shown]
        caption = f"{len(shown)} of {len(scores.failures)}; metrics.json has all"
        sections.append(section("left-out", "Pictures left out", table(caption, ["picture", "reason"], rows)))
    what = f"native patches of {scores.settings['patch']} px" if "patches" in scores.settings else "pictures"
    return page("Scores", f"{scores.n} {what}, compared with references.", sections)


def order(pictures: Mapping[str, Mapping[str, float]]) -> tuple[str, list[str]]:
    """Keys from the worst to the best, and the score that says so: LPIPS, else PSNR, else SSIM."""
    name = next(name for name in ("lpips", "psnr", "ssim") if name in next(iter(pictures.values())))
    return name, sorted(pictures, key=lambda key: pictures[key][name], reverse=name not in _HIGHER)


def groups(keys: list[str]) -> list[tuple[str, str]]:
    """At most ``MOST`` of keys in order, each with its group: the first, the middle and the last ones."""
    if len(keys) <= MOST:
        return [("", key) for key in keys]
    each = MOST // 3
    middle = (len(keys) - each) // 2
    parts = (keys[:each], keys[middle : middle + each], keys[-each:])
    return [(group, key) for group, part in zip(_GROUPS, parts, strict=True) for key in part]


def _table(scores: "Scores") -> str:
    rows = []
    others = {"reference against itself": scores.floor, "LQ enlarged": scores.inputs}
    beside = {head: values for head, values in others.items() if values}
    for name, value in scores.values.items():
        if value is None and name not in scores.notes:
            continue
        interval = scores.intervals.get(name)
        rows.append(
            [
                _NAMES[name],
                _shown_value(name, value),
                " to ".join(_shown_value(name, bound) for bound in interval) if interval else "",
                "higher" if name in _HIGHER else "lower",
                *(_shown_value(name, values[name]) if name in values else "" for values in beside.values()),
            ]
        )
    head = ["score", "value", "95% interval", "better is", *beside]
    caption = f"Scores, n = {scores.n}; the interval is that of the mean over pictures, for KID that of the subsets"
    return table(caption, head, rows)


def _shown_value(name: str, value: float | None) -> str:
    return distance(value) if name.startswith("fid") else number(value, 2 if name == "psnr" else 4)


def _notes(scores: "Scores") -> list[str]:
    names: dict[str, list[str]] = {}
    for name, note in scores.notes.items():
        names.setdefault(note, []).append(_plain_name(name))
    return [paragraph(f"{', '.join(named)}: {note}.", "warning") for note, named in names.items()]


def _plain_name(name: str) -> str:
    return _NAMES[name].partition(",")[0]


def _pictures(scores: "Scores") -> str:
    name, keys = order(scores.pictures)
    kept = within_budget([_shown(scores, name, group, key) for group, key in groups(keys)])
    return section(
        "pictures",
        "Pictures",
        paragraph(
            f"{len(kept)} of {len(keys)} pictures, the worst by {_plain_name(name)} first: the centre, "
            f"{SIDE} px a side at most, every pixel a square. The scores are those of the whole picture."
        ),
        browser(kept, [""], 0, 1),
    )


def _shown(scores: "Scores", name: str, group: str, key: str) -> Shown:
    result, reference = (_centre(picture) for picture in scores.files[key])
    found = scores.pictures[key]
    said = {one: f"{_plain_name(one)} {_shown_value(one, value)}" for one, value in found.items()}
    stages = (
        Stage("", "reference", "", png_uri(reference)),
        Stage("", "result", ", ".join(said.values()), png_uri(result)),
    )
    return Shown(f"{key} ({said[name]})", tuple(result.shape[1:]), (stages,), group)


def _centre(picture: Picture) -> torch.Tensor:
    pixels = torch.from_numpy(decode_picture(picture.file())).permute(2, 0, 1)
    height, width = (min(side, SIDE) for side in pixels.shape[1:])
    top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
    return pixels[:, top : top + height, left : left + width]
