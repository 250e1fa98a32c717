"""Read a pairs folder with the dataset classes of other projects, for ``benchmarks/other_readers.py``.

Each function yields the pairs of one reader as (HQ, LQ), or the exception that its dataset raised for a pair. Readers
run in processes of their own, because several of them install a package named ``data`` or ``utils``.
"""

import json
import os
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

Pair = tuple[np.ndarray, np.ndarray]
"""HQ and LQ, (H, W, 3) uint8 RGB."""

SCALE = 4


def basicsr(folder: Path, **options: str) -> Iterator[Pair | Exception]:
    """``PairedImageDataset`` of BasicSR; ``options`` are paths inside the folder."""
    _fill_gaps()
    from basicsr.data.paired_image_dataset import PairedImageDataset

    return _read(PairedImageDataset(_opt(folder, options)), "gt", "lq")


def real_esrgan(folder: Path, **options: str) -> Iterator[Pair | Exception]:
    """``RealESRGANPairedDataset`` of Real-ESRGAN."""
    _fill_gaps()
    from realesrgan.data.realesrgan_paired_dataset import RealESRGANPairedDataset

    return _read(RealESRGANPairedDataset(_opt(folder, options)), "gt", "lq")


def kair(folder: Path, **_: str) -> Iterator[Pair | Exception]:
    """``DatasetSR`` of KAIR."""
    from data.dataset_sr import DatasetSR

    roots = {"dataroot_H": str(folder / "hq"), "dataroot_L": str(folder / "lq")}
    return _read(DatasetSR(roots | {"n_channels": 3, "scale": SCALE, "H_size": None, "phase": "test"}), "H", "L")


def trainner(folder: Path, **options: str) -> Iterator[Pair | Exception]:
    """``PairedImageDataset`` of traiNNer-redux."""
    from traiNNer.data.paired_image_dataset import PairedImageDataset
    from traiNNer.utils.redux_options import DatasetOptions

    opt = _opt(folder, options)
    opt |= {root: [opt[root]] for root in ("dataroot_gt", "dataroot_lq")}
    return _read(PairedImageDataset(DatasetOptions(name="pairs", type="PairedImageDataset", **opt)), "gt", "lq")


def webdataset(folder: Path, **_: str) -> Iterator[Pair | Exception]:
    """Shards with the package ``webdataset``."""
    import webdataset as wds

    shards = sorted(map(str, folder.glob("*.tar")))
    yield from wds.WebDataset(shards, shardshuffle=False).decode("rgb8").to_tuple("hq.png", "lq.png")


def datasets_shards(folder: Path, **_: str) -> Iterator[Pair | Exception]:
    """Shards with ``datasets`` of Hugging Face."""
    from datasets import load_dataset

    for row in load_dataset("webdataset", data_files=str(folder / "*.tar"), split="train"):
        yield np.array(row["hq.png"]), np.array(row["lq.png"])


def datasets_folder(folder: Path, **_: str) -> Iterator[Pair | Exception]:
    """The images of a folder with ``imagefolder`` of Hugging Face, paired by their paths."""
    from datasets import Image, load_dataset

    found: dict[str, dict[str, dict]] = {"hq": {}, "lq": {}}
    for rows in load_dataset("imagefolder", data_dir=str(folder)).values():
        for row in rows.cast_column("image", Image(decode=False)):
            side, _, name = os.path.relpath(row["image"]["path"], folder).partition("/")
            found.get(side, {})[name] = row["image"]
    decode = Image().decode_example
    for name in found["hq"].keys() & found["lq"].keys():
        yield np.array(decode(found["hq"][name])), np.array(decode(found["lq"][name]))


def datasets_rows(folder: Path, **_: str) -> Iterator[Pair | Exception]:
    """The accepted pairs of the manifest with ``datasets``, as ``docs/pairs-format.md`` describes."""
    from datasets import Dataset, Image

    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    rows = [{side: str(folder / line[side]) for side in ("hq", "lq")} for line in lines if line["accepted"]]
    for row in Dataset.from_list(rows).cast_column("hq", Image()).cast_column("lq", Image()):
        yield np.array(row["hq"]), np.array(row["lq"])


READERS: dict[str, Callable[..., Iterator[Pair | Exception]]] = {
    "BasicSR": basicsr,
    "Real-ESRGAN": real_esrgan,
    "KAIR": kair,
    "traiNNer-redux": trainner,
    "webdataset": webdataset,
    "datasets, webdataset": datasets_shards,
    "datasets, imagefolder": datasets_folder,
    "datasets, from_list": datasets_rows,
}


def _opt(folder: Path, options: dict[str, str]) -> dict:
    """Return the options of BasicSR's datasets; those given override the roots ``hq`` and ``lq``."""
    roots = {"dataroot_gt": "hq", "dataroot_lq": "lq"} | options
    opt = {name: str(folder / path) for name, path in roots.items()}
    backend = "lmdb" if opt["dataroot_gt"].endswith(".lmdb") else "disk"
    return opt | {"io_backend": {"type": backend}, "scale": SCALE, "phase": "val"}


def _read(dataset, hq: str, lq: str) -> Iterator[Pair | Exception]:
    for index in range(len(dataset)):
        try:
            item = dataset[index]
        except Exception as error:  # whatever a peer raises is its result
            yield error
        else:
            yield tuple((item[side] * 255).round().byte().permute(1, 2, 0).numpy() for side in (hq, lq))


def _fill_gaps() -> None:
    """Add what BasicSR needs from an older torchvision, and the modules that its setup.py writes."""
    from torchvision.transforms.functional import rgb_to_grayscale

    gaps = {
        "torchvision.transforms.functional_tensor": {"rgb_to_grayscale": rgb_to_grayscale},
        "basicsr.version": {"__version__": "", "__gitsha__": ""},
        "realesrgan.version": {"__version__": "", "__gitsha__": ""},
    }
    for name, members in gaps.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(members)
