"""Figures of Study A: HQ, its handcrafted LQ, ours and a face of LFW; and LFW restored after each kind of pairs."""

from pathlib import Path

from PIL import Image

from ddpm_pairs.reports.contact_sheet import Entry, save_sheet
from ddpm_pairs.seeding import seed_of

ENTRIES = 4
RESTORED = {"handcrafted": "after handcrafted pairs", "ours": "after ours"}


def save_pairs(work: Path, path: Path) -> None:
    """Draw pairs, and faces of LFW, that a seeded order begins with; nothing is chosen by its looks.

    Args:
        work: Of the study.
        path: Of the PNG.
    """
    hq, faces = work / "train_pairs" / "ours" / "hq", work / "lq_faces"
    entries = []
    for name, face in zip(first(hq), first(faces), strict=True):
        lq = [work / "train_pairs" / kind / "lq" / name for kind in ("handcrafted", "ours")]
        entries.append(Entry(tuple(map(Image.open, (hq / name, *lq, faces / face))), Path(name).stem, Path(face).stem))
    save_sheet(path, entries, ("HQ", "handcrafted LQ", "our LQ", "a face of LFW"), "pairs for LFW, 128 px")


def save_restored(work: Path, path: Path) -> None:
    """Draw faces of LFW that a seeded order begins with, and what restorers make of them.

    Args:
        work: Of the study.
        path: Of the PNG.
    """
    folders = [work / "lq_faces", *(work / f"lfw_{kind}" / "restored" for kind in RESTORED)]
    entries = [
        Entry(tuple(Image.open(folder / name) for folder in folders), Path(name).stem, "")
        for name in first(work / "lq_faces")
    ]
    save_sheet(path, entries, ("LFW", *RESTORED.values()), "faces of LFW, restored by GPEN, 128 px")


def first(folder: Path) -> list[str]:
    """Names of the pictures that a seeded order begins with."""
    return sorted((one.name for one in folder.iterdir()), key=lambda name: seed_of("figure", name))[:ENTRIES]
