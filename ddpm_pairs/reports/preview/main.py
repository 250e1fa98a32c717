"""``ddpm-pairs preview``: what a handcrafted degradation makes of HQ pictures, before any pair is made with it."""

import importlib
import inspect
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image, ImageDraw
from torch import Tensor

from ddpm_pairs.data.high_quality import HighQualityPicture
from ddpm_pairs.degradations.walk import generator_for
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import atomic_file
from ddpm_pairs.images.decode import UnreadablePicture, decode_picture
from ddpm_pairs.images.find import Picture, find_pictures
from ddpm_pairs.pairset.records import variant_keys
from ddpm_pairs.reports.contact_sheet import FAINT, GAP, INK, MARGIN, PAPER, TILE, font_of, shown_part, tile, write_line
from ddpm_pairs.reports.html.browser import spread
from ddpm_pairs.reports.preview.histograms import save_histograms
from ddpm_pairs.reports.preview.parameters import columns, phrases
from ddpm_pairs.shipped import shipped_config
from ddpm_pairs.synthesis.generator import MIN_LQ_SIDE, Pair, PairGenerator, too_small
from ddpm_pairs.synthesis.provenance import build_from_spec

HISTOGRAM_DRAWS = 2000
LARGEST_SIDE = 1024
"""Of larger HQ pictures the centre is taken, in pixels a side: no more is shown anyway."""

_TITLE, _TEXT, _LINE = 14, 13, 17  # heights in sheet pixels
_MOST_LINES = 14


def main(arguments: Namespace) -> int:
    """``ddpm-pairs preview``.

    Args:
        arguments: ``degradation``, ``hq_dir``, ``output_dir``, ``scale``, ``preset``, ``draws``, ``pictures`` and
            ``seed`` of the command line.

    Returns:
        0.

    Raises:
        UserError: for an unknown degradation or unusable folders.
    """
    for option in ("draws", "pictures"):
        if getattr(arguments, option) < 1:
            raise UserError(f"--{option} is {getattr(arguments, option)}: expected 1 or more")
    generator = generator_of(arguments.degradation, arguments.scale, arguments.preset, arguments.seed)
    found, _ = find_pictures(arguments.hq_dir, "--data.hq_dir")
    root, name = arguments.output_dir, generator.degradation.name
    if root.exists() and not root.is_dir():
        raise UserError(f"--output_dir {root} is a file: expected a folder or a new name")
    if root.resolve().is_relative_to(arguments.hq_dir.resolve()):
        raise UserError(f"--output_dir {root} lies in --data.hq_dir {arguments.hq_dir}: give another folder")
    many = [generator.degradation.draw(generator_for(arguments.seed, str(n), "draws")) for n in range(HISTOGRAM_DRAWS)]
    drawn = columns(many)
    by_key = sorted(found, key=lambda picture: picture.key)
    rows = [
        row
        for place in spread(len(by_key), arguments.pictures)
        if (row := _row(by_key[place], generator, arguments.draws if drawn else 1)) is not None
    ]
    if not rows:
        raise UserError(f"--data.hq_dir: none of the pictures of {arguments.hq_dir} that were tried can be used")
    what = f"{name}, scale {generator.scale}, {generator.preset}"
    root.mkdir(parents=True, exist_ok=True)
    sheet, histograms = root / f"{name}_draws.png", root / f"{name}_parameters.png"
    with atomic_file(sheet) as file:
        draw_preview(rows, f"{what}: draws from seed {arguments.seed}").save(file, "PNG")
    print(f"draws       {sheet}")
    if drawn:
        save_histograms(histograms, drawn, f"{what}: parameters of {HISTOGRAM_DRAWS} draws")
        print(f"parameters  {histograms}")
    else:
        print(f"parameters  none: nothing is random in {name}")
    return 0


def generator_of(degradation: str, scale: int | None, preset: str | None, seed: int) -> PairGenerator:
    """A generator of handcrafted pairs.

    Args:
        degradation: A short name, a class path, or a config of pairs whose degradation, scale and preset are taken.
        scale: HQ side over LQ side; None takes the config's, or 1 for ``faces`` and else 4.
        preset: None takes the config's, or ``natural``.
        seed: Seed of everything drawn.

    Raises:
        UserError: if it cannot be had.
    """
    spec: Any = degradation
    if degradation.endswith((".yaml", ".yml")):
        arguments = _read_config(degradation)
        spec = arguments["degradation"]
        scale = arguments.get("scale") if scale is None else scale
        preset = arguments.get("preset") if preset is None else preset
    preset = preset or "natural"
    scale = (1 if preset == "faces" else 4) if scale is None else scale
    if isinstance(spec, str) and "." in spec:
        spec = {"class_path": spec, "init_args": _accepted(spec, {"scale": scale, "preset": preset})}
    if isinstance(spec, dict):
        spec = build_from_spec({"init_args": {}} | spec, scale, preset)
    return PairGenerator(spec, scale=scale, preset=preset, t_max=0, seed=seed)


def _read_config(name: str) -> dict[str, Any]:
    """The generator's arguments in a config of pairs, of one's own or shipped."""
    path = Path(name) if Path(name).is_file() else shipped_config(name)
    if path is None:
        raise UserError(f"--degradation: there is no config {name}; give a file, or a shipped one")
    try:
        arguments = yaml.safe_load(path.read_text())["model"]["init_args"]
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
        arguments = None
    if not isinstance(arguments, dict) or "degradation" not in arguments:
        raise UserError(f"--degradation: {name} is no config of pairs: expected model: init_args: degradation: in it")
    return arguments


def _accepted(class_path: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Those of the arguments that a class takes."""
    module, _, name = class_path.rpartition(".")
    try:
        names = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"--degradation: {class_path} cannot be imported ({error}): give package.module.Class"
        ) from None
    return {key: value for key, value in arguments.items() if key in names}


@dataclass(frozen=True)
class Row:
    """One picture of the sheet: its draws, made as ``predict`` would, the first under the picture's own key."""

    key: str
    pairs: tuple[Pair, ...]


def _row(picture: Picture, generator: PairGenerator, draws: int) -> Row | None:
    """Degrade a picture several times; None, with a line that says why, where it cannot be used."""
    try:
        hq = torch.from_numpy(decode_picture(picture.path)).permute(2, 0, 1)
    except UnreadablePicture as error:
        print(f"left out    {picture.source}: {error}")
        return None
    if min(hq.shape[1:]) < MIN_LQ_SIDE * generator.scale:
        print(f"left out    {picture.source}: {too_small(*hq.shape[1:], generator.scale)}")
        return None
    for dim in (1, 2):
        length = min(hq.shape[dim], LARGEST_SIDE)
        hq = hq.narrow(dim, (hq.shape[dim] - length) // 2, length)
    keys = variant_keys(picture.key, draws)
    generator.prepare(torch.device("cpu"))
    work = [generator.draw(HighQualityPicture(key, picture.source, "", hq)) for key in keys]
    return Row(picture.key, tuple(generator.make(work)))


def draw_preview(rows: list[Row], heading: str) -> Image.Image:
    """Draw the sheet: a row a picture, HQ first, below each draw what was drawn.

    Args:
        rows: At least one, all with equally many draws.
        heading: What stands over the sheet.
    """
    captions = [[_facts(row), *(_told(pair) for pair in row.pairs)] for row in rows]
    depths = [_TITLE + 10 + _LINE * max(map(len, lines)) + GAP for lines in captions]
    heights = [_shown_size(row)[1] + depth for row, depth in zip(rows, depths, strict=True)]
    width = 2 * MARGIN + (len(rows[0].pairs) + 1) * (TILE + GAP) - GAP
    top = MARGIN + 30
    sheet = Image.new("RGB", (width, top + sum(heights) + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    write_line(draw, (MARGIN, MARGIN - 6), heading, 18, INK, width - 2 * MARGIN)
    for row, lines, height in zip(rows, captions, heights, strict=True):
        _draw_row(sheet, draw, row, lines, top)
        top += height
    return sheet


def _draw_row(sheet: Image.Image, draw: ImageDraw.ImageDraw, row: Row, captions: list[list[str]], top: int) -> None:
    """Draw the pictures of a row with a title and a caption below each."""
    size, pictures = _shown_size(row), [_image(row.pairs[0].hq), *(_image(pair.lq) for pair in row.pairs)]
    titles = [row.key, *(_decibels(pair.record["psnr"]) for pair in row.pairs)]
    box, _ = shown_part(pictures[-1].size)
    for n, (picture, title, lines) in enumerate(zip(pictures, titles, captions, strict=True)):
        left = MARGIN + n * (TILE + GAP)
        sheet.paste(tile(picture, box, pictures[-1].size, size), (left, top))
        write_line(draw, (left, top + size[1] + 4), title, _TITLE, INK, TILE)
        for number, line in enumerate(lines):
            write_line(draw, (left, top + size[1] + 8 + _TITLE + number * _LINE), line, _TEXT, FAINT, TILE)


def _facts(row: Row) -> list[str]:
    """What stands below HQ."""
    hq, lq = ((picture.shape[2], picture.shape[1]) for picture in (row.pairs[0].hq, row.pairs[0].lq))
    (left, top, right, bottom), factor = shown_part(lq)
    shown = ["centre shown"] if (right - left, bottom - top) != lq else []
    return [
        f"HQ {hq[0]}x{hq[1]}",
        f"LQ {lq[0]}x{lq[1]}, enlarged x{factor}" if factor > 1 else f"LQ {lq[0]}x{lq[1]}",
        *shown,
    ]


def _told(pair: Pair) -> list[str]:
    """What stands below a draw: its parameters in lines as wide as a picture; a phrase is not broken."""
    lines: list[str] = []
    for phrase in phrases(pair.record["degradation"]["parameters"]) or ["nothing random"]:
        joined = f"{lines[-1]}, {phrase}" if lines else phrase
        a_stage = phrase[0].isdigit()
        if lines and not a_stage and font_of(_TEXT).getlength(joined + ",") <= TILE:
            lines[-1] = joined
        else:
            lines[-1:] = [f"{lines[-1]},", phrase] if lines else [phrase]
    return lines if len(lines) <= _MOST_LINES else [*lines[: _MOST_LINES - 1], "…"]


def _shown_size(row: Row) -> tuple[int, int]:
    lq = row.pairs[0].lq
    (left, top, right, bottom), factor = shown_part((lq.shape[2], lq.shape[1]))
    return (right - left) * factor, (bottom - top) * factor


def _image(picture: Tensor) -> Image.Image:
    return Image.fromarray(picture.permute(1, 2, 0).numpy())


def _decibels(value: float | None) -> str:
    return "equal to HQ" if value is None else f"{value:.1f} dB"
