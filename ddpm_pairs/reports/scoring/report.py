"""Scores as one HTML page."""

from collections.abc import Mapping

import torch

from ddpm_pairs.images.decode import decode_picture
from ddpm_pairs.images.find import Picture
from ddpm_pairs.reports.html.browser import Browser, Item, Stage, within_budget
from ddpm_pairs.reports.html.templates import render
from ddpm_pairs.reports.html.values import Table, as_text, distance, number, png_uri
from ddpm_pairs.reports.scoring.scores import HIGHER_IS_BETTER, Scores

MOST, SIDE = 12, 256
"""Pairs in the browser, and the side in pixels of the part of each that is shown."""

FAILURES_SHOWN = 100

_NAMES = {"fid": "FID", "fid192": "fid192", "kid": "KID", "lpips": "LPIPS", "psnr": "PSNR", "ssim": "SSIM"}
_GROUPS = ("Worst", "Around the median", "Best")


def score_report(scores: Scores) -> str:
    """Render the scores as a page; with paired scores it shows images next to their references."""
    what = f"native patches of {scores.settings['patch']} px" if "patches" in scores.settings else "images"
    images, sorted_by = _browser(scores) if scores.files else (None, "")
    failures = scores.failures[:FAILURES_SHOWN]
    return render(
        "reports/scoring/report.html.j2",
        title="Scores",
        lead=f"{scores.n} {what}, compared with references.",
        scores=_table(scores),
        notes=_notes(scores),
        values=as_text(scores.settings),
        images=images,
        count=len(scores.pictures),
        sorted_by=sorted_by,
        side=SIDE,
        skipped=Table(
            f"{len(failures)} of {len(scores.failures)}; metrics.json lists all of them",
            ["image", "reason"],
            [[failure.source, failure.reason] for failure in failures],
        ),
    )


def order(pictures: Mapping[str, Mapping[str, float]]) -> tuple[str, list[str]]:
    """Sort keys from worst to best by LPIPS, else PSNR, else SSIM.

    Args:
        pictures: Paired scores by key, then by name.

    Returns:
        The score that was used, and the keys.
    """
    name = next(name for name in ("lpips", "psnr", "ssim") if name in next(iter(pictures.values())))
    return name, sorted(pictures, key=lambda key: pictures[key][name], reverse=name not in HIGHER_IS_BETTER)


def groups(keys: list[str]) -> list[tuple[str, str]]:
    """Choose at most ``MOST`` sorted keys, each with its group: the first, the middle and the last ones."""
    if len(keys) <= MOST:
        return [("", key) for key in keys]
    each = MOST // 3
    middle = (len(keys) - each) // 2
    parts = (keys[:each], keys[middle : middle + each], keys[-each:])
    return [(group, key) for group, part in zip(_GROUPS, parts, strict=True) for key in part]


def _table(scores: Scores) -> Table:
    columns = {"reference vs. itself": scores.floor, "enlarged LQ": scores.inputs}
    compared = {head: values for head, values in columns.items() if values}
    rows = []
    for name, value in scores.values.items():
        if value is None and name not in scores.notes:
            continue
        interval = scores.intervals.get(name)
        rows.append(
            [
                "PSNR, dB" if name == "psnr" else _NAMES[name],
                _formatted(name, value),
                " to ".join(_formatted(name, bound) for bound in interval) if interval else "",
                "higher" if name in HIGHER_IS_BETTER else "lower",
                *(_formatted(name, values[name]) if name in values else "" for values in compared.values()),
            ]
        )
    caption = f"n = {scores.n}. Intervals are for the mean over images; for KID, over its random subsets."
    return Table(caption, ["score", "value", "95% interval", "better is", *compared], rows)


def _formatted(name: str, value: float | None) -> str:
    return distance(value) if name.startswith("fid") else number(value, 2 if name == "psnr" else 4)


def _notes(scores: Scores) -> list[tuple[str, str]]:
    """Return every note once, with the names of the scores it applies to."""
    names: dict[str, list[str]] = {}
    for name, note in scores.notes.items():
        names.setdefault(note, []).append(_NAMES[name])
    return [(", ".join(named), note) for note, named in names.items()]


def _browser(scores: Scores) -> tuple[Browser, str]:
    name, keys = order(scores.pictures)
    items = within_budget([_item(scores, name, group, key) for group, key in groups(keys)])
    return Browser(items, [""], row=0, stage=1), _NAMES[name]


def _item(scores: Scores, name: str, group: str, key: str) -> Item:
    result, reference = (_center(picture) for picture in scores.files[key])
    found = {one: f"{_NAMES[one]} {_formatted(one, value)}" for one, value in scores.pictures[key].items()}
    stages = (
        Stage("", "reference", "", png_uri(reference)),
        Stage("", "result", ", ".join(found.values()), png_uri(result)),
    )
    return Item(f"{key} ({found[name]})", tuple(result.shape[1:]), (stages,), group)


def _center(picture: Picture) -> torch.Tensor:
    pixels = torch.from_numpy(decode_picture(picture.file())).permute(2, 0, 1)
    height, width = (min(side, SIDE) for side in pixels.shape[1:])
    top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
    return pixels[:, top : top + height, left : left + width]
