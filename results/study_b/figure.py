"""Figures of Study B: HQ, handcrafted LQ, our LQ, and a real LQ; and real LQ restored by each restorer."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from ddpm_pairs.reports.contact_sheet import Entry, save_sheet
from ddpm_pairs.tensors import seed_of

SIDE, ENTRIES, THUMBNAIL = 64, 4, 4
"""px of LQ; number of images; px of the thumbnails by which a similar real LQ is found."""
HEADINGS = ("HQ", "handcrafted LQ", "our LQ", "a real LQ, another scene")
RESTORED = {"handcrafted": "after Real-ESRGAN pairs", "pairs": "after ours", "mix": "after half of each"}
FOLDERS = {"handcrafted": "handcrafted_0", "ours": "ours_0"}


def save_figure(work: Path, real_dir: Path, path: Path) -> None:
    """Draw the first pairs in a seeded order; none are selected by hand.

    Args:
        work: Folder of the study.
        real_dir: The camera's images.
        path: Path of the PNG.
    """
    pairs = {kind: records(work / "pairs" / folder) for kind, folder in FOLDERS.items()}
    real = {one.stem: center(Image.open(one).convert("RGB"), SIDE) for one in sorted(real_dir.iterdir())}
    entries = []
    for key in sorted(pairs["ours"], key=lambda key: seed_of("figure", key))[:ENTRIES]:
        lq = {kind: picture(work, kind, pairs[kind][key]["lq"], SIDE) for kind in FOLDERS}
        hq = picture(work, "ours", pairs["ours"][key]["hq"], SIDE * pairs["ours"][key]["scale"])
        alike = min(real, key=lambda name: np.abs(thumbnail(real[name]) - thumbnail(lq["ours"])).mean())
        pictures = (hq, lq["handcrafted"], lq["ours"], real.pop(alike))
        entries.append(Entry(pictures, key, f"our pair: t {pairs['ours'][key]['t']}; the real LQ: {alike}"))
    save_sheet(path, entries, HEADINGS, f"x4 pairs for one camera, {SIDE} px of LQ")


def save_restored(work: Path, lq_dir: Path, path: Path) -> None:
    """Draw the first test images in a seeded order, restored by seed 0 of each training.

    Args:
        work: Folder of the study.
        lq_dir: LQ of the test.
        path: Path of the PNG.
    """
    names = sorted((one.stem for one in lq_dir.iterdir()), key=lambda name: seed_of("figure", name))[:ENTRIES]
    entries = []
    for name in names:
        lq = Image.open(lq_dir / f"{name}.png").convert("RGB")
        shown = [
            center(Image.open(work / f"lq_test_{one}_0" / "restored" / f"{name}.png"), SIDE * 4) for one in RESTORED
        ]
        entries.append(Entry((*shown, center(lq, SIDE)), name, ""))
    save_sheet(path, entries, (*RESTORED.values(), "LQ"), "images of the camera, restored x4")


def records(folder: Path) -> dict[str, dict]:
    """Return the manifest lines of a pairs folder by key."""
    lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return {line["key"]: line for line in map(json.loads, lines)}


def picture(work: Path, kind: str, name: str, side: int) -> Image.Image:
    """Return the center of an image of a pair."""
    return center(Image.open(work / "pairs" / FOLDERS[kind] / name), side)


def center(image: Image.Image, side: int) -> Image.Image:
    """Return the central square."""
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def thumbnail(image: Image.Image) -> np.ndarray:
    """Return a small array of mean colors."""
    return np.asarray(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), dtype=float)
