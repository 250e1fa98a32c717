"""Figures of Study A: HQ, handcrafted LQ, our LQ, and a face of LFW; and LFW restored by each GPEN."""

from pathlib import Path

from PIL import Image

from ddpm_pairs.reports.contact_sheet import Entry, save_sheet
from ddpm_pairs.tensors import seed_of

ENTRIES = 4
RESTORED = {"handcrafted": "after handcrafted pairs", "ours": "after ours"}


def save_pairs(work: Path, path: Path) -> None:
    """Draw the first pairs and the first faces of LFW in a seeded order; none are selected by hand.

    Args:
        work: Folder of the study.
        path: Path of the PNG.
    """
    hq, faces = work / "train_pairs" / "ours" / "hq", work / "lq_faces"
    entries = []
    for name, face in zip(first(hq), first(faces), strict=True):
        lq = [work / "train_pairs" / kind / "lq" / name for kind in ("handcrafted", "ours")]
        entries.append(Entry(tuple(map(Image.open, (hq / name, *lq, faces / face))), Path(name).stem, Path(face).stem))
    save_sheet(path, entries, ("HQ", "handcrafted LQ", "our LQ", "a face of LFW"), "pairs for LFW, 128 px")


def save_restored(work: Path, path: Path) -> None:
    """Draw the first faces of LFW in a seeded order, unrestored and restored.

    Args:
        work: Folder of the study.
        path: Path of the PNG.
    """
    folders = [work / "lq_faces", *(work / f"lfw_{kind}" / "restored" for kind in RESTORED)]
    entries = [
        Entry(tuple(Image.open(folder / name) for folder in folders), Path(name).stem, "")
        for name in first(work / "lq_faces")
    ]
    save_sheet(path, entries, ("LFW", *RESTORED.values()), "faces of LFW, restored by GPEN, 128 px")


def first(folder: Path) -> list[str]:
    """Return the names of the first images in a seeded order."""
    return sorted((one.name for one in folder.iterdir()), key=lambda name: seed_of("figure", name))[:ENTRIES]
