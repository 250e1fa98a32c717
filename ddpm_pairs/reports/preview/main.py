"""``ddpm-pairs preview``: show what a degradation does to HQ images before making pairs with it."""

import importlib
import inspect
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
import yaml

from ddpm_pairs.data.high_quality import HighQualityPicture
from ddpm_pairs.degradations.walk import generator_for
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import atomic_file
from ddpm_pairs.images.decode import UnreadablePicture, decode_picture
from ddpm_pairs.images.find import Picture, find_pictures
from ddpm_pairs.pairset.records import variant_keys
from ddpm_pairs.reports.preview.histograms import save_histograms
from ddpm_pairs.reports.preview.parameters import columns
from ddpm_pairs.reports.preview.sheet import Row, draw_preview
from ddpm_pairs.reports.spread import spread
from ddpm_pairs.shipped import shipped_config
from ddpm_pairs.synthesis.generator import MIN_LQ_SIDE, PairGenerator, too_small
from ddpm_pairs.synthesis.provenance import build_from_spec

HISTOGRAM_DRAWS = 2000
LARGEST_SIDE = 1024
"""Larger HQ images are cropped to a center of this side in pixels; no more is shown anyway."""


def main(arguments: Namespace) -> int:
    """Run ``ddpm-pairs preview``.

    Args:
        arguments: ``degradation``, ``hq_dir``, ``output_dir``, ``scale``, ``preset``, ``draws``, ``pictures`` and
            ``seed`` of the command line.

    Returns:
        0.

    Raises:
        UserError: If the degradation is unknown or a folder or an option is unusable.
    """
    for option in ("draws", "pictures"):
        if getattr(arguments, option) < 1:
            raise UserError(f"--{option}: got {getattr(arguments, option)}; expected 1 or more")
    generator = generator_of(arguments.degradation, arguments.scale, arguments.preset, arguments.seed)
    found, _ = find_pictures(arguments.hq_dir, "--data.hq_dir")
    root, name = arguments.output_dir, generator.degradation.name
    if root.exists() and not root.is_dir():
        raise UserError(f"--output_dir: got the file {root}; expected a folder or a new name")
    if root.resolve().is_relative_to(arguments.hq_dir.resolve()):
        raise UserError(
            f"--output_dir: got {root}, which is inside --data.hq_dir {arguments.hq_dir}; choose another folder"
        )
    many = [generator.degradation.draw(generator_for(arguments.seed, str(n), "draws")) for n in range(HISTOGRAM_DRAWS)]
    drawn = columns(many)
    by_key = sorted(found, key=lambda picture: picture.key)
    rows = [
        row
        for place in spread(len(by_key), arguments.pictures)
        if (row := _row(by_key[place], generator, arguments.draws if drawn else 1)) is not None
    ]
    if not rows:
        raise UserError(
            f"--data.hq_dir: none of the images tried in {arguments.hq_dir} can be used; choose another folder"
        )
    what = f"{name}, scale {generator.scale}, {generator.preset}"
    root.mkdir(parents=True, exist_ok=True)
    sheet, histograms = root / f"{name}_draws.png", root / f"{name}_parameters.png"
    with atomic_file(sheet) as file:
        draw_preview(rows, f"{what}: random degradations, seed {arguments.seed}").save(file, "PNG")
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


def _row(picture: Picture, generator: PairGenerator, draws: int) -> Row | None:
    """Degrade an image several times; prints the reason and returns ``None`` if it cannot be used."""
    try:
        hq = torch.from_numpy(decode_picture(picture.path)).permute(2, 0, 1)
    except UnreadablePicture as error:
        print(f"skipped     {picture.source}: {error}")
        return None
    if min(hq.shape[1:]) < MIN_LQ_SIDE * generator.scale:
        print(f"skipped     {picture.source}: {too_small(*hq.shape[1:], generator.scale)}")
        return None
    for dim in (1, 2):
        length = min(hq.shape[dim], LARGEST_SIDE)
        hq = hq.narrow(dim, (hq.shape[dim] - length) // 2, length)
    keys = variant_keys(picture.key, draws)
    generator.prepare(torch.device("cpu"))
    work = [generator.draw(HighQualityPicture(key, picture.source, "", hq)) for key in keys]
    return Row(picture.key, tuple(generator.make(work)))
