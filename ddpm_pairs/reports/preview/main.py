"""``ddpm-pairs preview``: show what a degradation does to HQ images before making pairs with it."""

from argparse import Namespace

import torch

from ddpm_pairs.data.high_quality import Work
from ddpm_pairs.degradations.base import MIN_LQ_SIDE, too_small
from ddpm_pairs.degradations.by_name import by_name, label_of
from ddpm_pairs.errors import UserError
from ddpm_pairs.files import atomic_file, check_writable
from ddpm_pairs.images.decode import UnreadablePicture, decode_picture
from ddpm_pairs.images.find import Picture, find_pictures
from ddpm_pairs.pairset.records import variant_keys
from ddpm_pairs.plain_text import print_plain
from ddpm_pairs.reports.contact_sheet import spread
from ddpm_pairs.reports.preview.histograms import save_histograms
from ddpm_pairs.reports.preview.parameters import columns
from ddpm_pairs.reports.preview.sheet import Row, draw_preview
from ddpm_pairs.synthesis.generator import PairGenerator
from ddpm_pairs.tensors import generator_for

HISTOGRAM_DRAWS = 2000
LARGEST_SIDE = 1024
"""Larger HQ images are cropped to a center of this side in pixels; the sheet does not show more."""


def main(arguments: Namespace) -> int:
    """Run ``ddpm-pairs preview``.

    Args:
        arguments: ``degradation`` (a list), ``hq_dir``, ``output_dir``, ``scale``, ``draws``, ``pictures`` and ``seed``
            of the command line.

    Returns:
        0.

    Raises:
        UserError: If the degradation is unknown or a folder or an option is unusable.
    """
    if arguments.seed < 0:
        raise UserError(f"--seed: got {arguments.seed}; expected 0 or more")
    for option in ("draws", "pictures"):
        if getattr(arguments, option) < 1:
            raise UserError(f"--{option}: got {getattr(arguments, option)}; expected 1 or more")
    generators = {}
    for asked in arguments.degradation:
        generator = PairGenerator(by_name(asked, arguments.scale, "--scale"), t_max=0, seed=arguments.seed)
        generators[label_of(asked, generator.degradation)] = generator
    found, _ = find_pictures(arguments.hq_dir, "--data.hq_dir")
    root = arguments.output_dir
    if root.exists() and not root.is_dir():
        raise UserError(f"--output_dir: got the file {root}; expected a folder or a new name")
    if root.resolve().is_relative_to(arguments.hq_dir.resolve()):
        raise UserError(
            f"--output_dir: got {root}, which is inside --data.hq_dir {arguments.hq_dir}; choose another folder"
        )
    check_writable(root)
    by_key = sorted(found, key=lambda picture: picture.key)
    chosen = [by_key[place] for place in spread(len(by_key), arguments.pictures)]
    rows_of = {}
    for name, generator in generators.items():
        rows_of[name] = {row.key: row for row in _show(name, generator, chosen, arguments)}
    if len(generators) > 1:
        first, *others = rows_of.values()
        keys = [key for key in first if all(key in rows for rows in others)]
        together = [Row(key, tuple(rows[key].pairs[0] for rows in rows_of.values())) for key in keys]
        path = root / "side_by_side.png"
        with atomic_file(path) as file:
            draw_preview(together, f"side by side, seed {arguments.seed}", tuple(generators)).save(file, "PNG")
        print(f"all         {path}")
    return 0


def _show(name: str, generator: PairGenerator, pictures: list[Picture], arguments: Namespace) -> list[Row]:
    """Write the sheets of one degradation.

    Raises:
        UserError: If none of the images can be used.
    """
    root, seed, start = arguments.output_dir, arguments.seed, generator.degradation
    draws = [start.draw(generator_for(seed, str(n), "draws")) for n in range(HISTOGRAM_DRAWS)]
    drawn, is_random = columns(draws), any(one != draws[0] for one in draws)
    rows = [_row(picture, generator, arguments.draws if is_random else 1) for picture in pictures]
    rows = [row for row in rows if row is not None]
    if not rows:
        raise UserError(
            f"--data.hq_dir: none of the images tried in {arguments.hq_dir} can be used; choose another folder"
        )
    what = f"{name}, scale {generator.scale}"
    sheet, histograms = root / f"{name}_draws.png", root / f"{name}_parameters.png"
    with atomic_file(sheet) as file:
        draw_preview(rows, f"{what}: random degradations, seed {seed}").save(file, "PNG")
    print(f"draws       {sheet}")
    if drawn:
        save_histograms(histograms, drawn, f"{what}: parameters of {HISTOGRAM_DRAWS} draws")
        print(f"parameters  {histograms}")
    elif is_random:
        print(f"parameters  none but seeds: all random values of {name} come from them")
    else:
        print(f"parameters  none: nothing is random in {name}")
    return rows


def _row(picture: Picture, generator: PairGenerator, draws: int) -> Row | None:
    """Degrade an image several times; prints the reason and returns ``None`` if it cannot be used."""
    try:
        hq = torch.from_numpy(decode_picture(picture.path)).permute(2, 0, 1)
    except UnreadablePicture as error:
        print_plain(f"skipped     {picture.source}: {error}")
        return None
    if min(hq.shape[1:]) < MIN_LQ_SIDE * generator.scale:
        print_plain(f"skipped     {picture.source}: {too_small(*hq.shape[1:], generator.scale)}")
        return None
    for dim in (1, 2):
        length = min(hq.shape[dim], LARGEST_SIDE)
        hq = hq.narrow(dim, (hq.shape[dim] - length) // 2, length)
    keys = variant_keys(picture.key, draws)
    generator.prepare(torch.device("cpu"))
    work = [generator.prepared(generator.draw(Work(key, picture.source, hq=hq))) for key in keys]
    return Row(picture.key, tuple(generator.make(work)))
