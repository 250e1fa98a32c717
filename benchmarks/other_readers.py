"""How many pairs of a folder with odd names and rejected pairs do other projects read, and are they the right ones?

A small pairs folder is made and packed in every form, and the dataset classes of other projects read each of them. A
pair is right if HQ and LQ together are the pixels of an accepted pair.

    python benchmarks/other_readers.py --work /tmp/readers --basicsr BasicSR/ --real-esrgan Real-ESRGAN/ --kair KAIR/ \
        --trainner traiNNer-redux/

Give the folders of the projects' checkouts; those that are not given are skipped, and so are packages that are not
installed. The checkouts need ``addict``, ``yapf``, ``tensorboard``, ``msgspec``, and ``pyvips-binary``.
"""

import argparse
import importlib.util
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from hashlib import sha256
from io import StringIO
from pathlib import Path

import numpy as np
from peer_datasets import READERS
from PIL import Image

from ddpm_pairs.api import make_pairs
from ddpm_pairs.degradations import Walk
from ddpm_pairs.demo.scenes import HQ_PHOTOGRAPHS, scenes
from ddpm_pairs.diffusion.runtime.runtime import Runtime
from ddpm_pairs.pairset.pack import pack

NAMES = (
    "plain.png", "UPPER.PNG", "two  words.png", "deep/er/nested.png", "test/1.png", "train/1.png", "set [b]/1.png",
    "[bold]tag[/bold].png", "(1) {} {0}.png", "comma, comma.png", "Übergröße/Möwe.png", "u\u0308.png", "duck 🦆.png",
    "日本語.png", "-dash.png", "--flag=1.png", "dots.in.name.png", "a..b.png", "x.hq.png", "percent%2C%.png",
    "hash#?&+.png", "star*.png", "quote'\".png", "back\\slash.png", "~tilde~1.png", "__under/__score.png",
)  # fmt: skip
"""Sources of the pairs: what people, cameras, and other programs call their files."""

VARIANTS = 2
SIDE = 64
PSNR_DROP = 2.0
"""Decibels that rejects some of the pairs."""

FORMS = {
    "as written": [],
    "--format folder": ["folder"],
    "--format folder --flat": ["folder", True],
    "--format lmdb": ["lmdb"],
    "--format webdataset": ["webdataset"],
}
LMDB = {"dataroot_gt": "hq.lmdb", "dataroot_lq": "lq.lmdb"}
IN_FOLDERS = ("as written", "--format folder", "--format folder --flat")
MODES = {
    "BasicSR": [
        ("folder", IN_FOLDERS, {}),
        ("meta_info_file", IN_FOLDERS, {"meta_info_file": "meta_info.txt"}),
        ("lmdb", ["--format lmdb"], LMDB),
    ],
    "Real-ESRGAN": [
        ("folder", IN_FOLDERS, {}),
        ("meta_info", IN_FOLDERS, {"dataroot_gt": "", "dataroot_lq": "", "meta_info": "meta_info.txt"}),
        ("lmdb", ["--format lmdb"], LMDB),
    ],
    "KAIR": [("folder", IN_FOLDERS, {})],
    "traiNNer-redux": [
        ("folder", IN_FOLDERS, {}),
        ("meta_info", IN_FOLDERS, {"meta_info": "meta_info.txt"}),
        ("lmdb", ["--format lmdb"], LMDB),
    ],
    "webdataset": [("shards", ["--format webdataset"], {})],
    "datasets, webdataset": [("shards", ["--format webdataset"], {})],
    "datasets, imagefolder": [("folder", IN_FOLDERS, {})],
    "datasets, from_list": [("manifest", IN_FOLDERS[:1], {})],
}
"""For each reader, its modes: the name, the forms that it reads, and its options."""


@dataclass
class Read:
    """What a reader made of a folder.

    Attributes:
        pairs: Hashes of HQ and LQ of the pairs.
        errors: What was raised, once per pair that could not be read.
    """

    pairs: list[tuple[str, str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def main() -> None:
    """Read the command line, make the pairs, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of all outputs; existing pairs are used again")
    for name in ("basicsr", "real-esrgan", "kair", "trainner"):
        parser.add_argument(f"--{name}", type=Path, help="folder of the checkout")
    arguments = parser.parse_args()
    checkouts = {
        "BasicSR": [arguments.basicsr],
        "Real-ESRGAN": [arguments.real_esrgan, arguments.basicsr],
        "KAIR": [arguments.kair],
        "traiNNer-redux": [arguments.trainner],
    }
    accepted, rejected = make(arguments.work)
    print(f"{len(accepted)} accepted pairs, {len(rejected)} rejected.\n")
    heads = ["reader", "mode", "form", "accepted pairs", "read", "rejected pairs read", "wrong", "not read"]
    print("| " + " | ".join(heads) + " |\n" + "| --- " * len(heads) + "|")
    for reader, modes in MODES.items():
        places = checkouts.get(reader, [])
        if None in places or not (places or importlib.util.find_spec(reader.split(",")[0])):
            print(f"| {reader} | missing |" + " |" * (len(heads) - 2))
            continue
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            for mode, forms, options in modes:
                for form in forms:
                    folder = arguments.work / folder_of(form)
                    found = process.submit(read, reader, folder, options, places).result()
                    cells = [reader, mode, form, len(accepted), *judged(found, accepted, rejected)]
                    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def make(work: Path) -> tuple[set, set]:
    """Make the pairs folder and its packed copies; return the hashes of the accepted and of the rejected pairs."""
    images = scenes(HQ_PHOTOGRAPHS, len(NAMES), SIDE, (0.5, 1.0), seed=0)
    for name, image in zip(NAMES, images.values(), strict=True):
        path = work / "sources" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    walk = Walk("bicubic", "blind_camera", t=(0, 100), sampling="fast", runtime=Runtime(threads=1))
    make_pairs(work / "sources", work / "pairs", walk, variants=VARIANTS, psnr_drop=PSNR_DROP, num_workers=0)
    for form, options in FORMS.items():
        if options and not (work / folder_of(form)).exists():
            pack(work / "pairs", work / folder_of(form), options[0], flat=len(options) > 1)
    pairs = {True: set(), False: set()}
    for line in (work / "pairs" / "manifest.jsonl").read_text().splitlines():
        record = json.loads(line)
        sides = (np.array(Image.open(work / "pairs" / record[side])) for side in ("hq", "lq"))
        pairs[record["accepted"]].add(hashes(*sides))
    return pairs[True], pairs[False]


def folder_of(form: str) -> str:
    """Return the name of the folder of a form."""
    return "_".join(["pairs", *map(str, FORMS[form])])


def hashes(*images: np.ndarray) -> tuple[str, ...]:
    """Hash images with their shapes."""
    return tuple(f"{image.shape} {sha256(np.ascontiguousarray(image)).hexdigest()}" for image in images)


def read(reader: str, folder: Path, options: dict[str, str], checkouts: list[Path]) -> Read:
    """Read a folder with one of ``READERS``, whose checkouts come first on the path."""
    sys.path[:0] = map(str, checkouts)
    found = Read()
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        try:
            for pair in READERS[reader](folder, **options):
                if isinstance(pair, Exception):
                    found.errors.append(in_words(pair))
                else:
                    found.pairs.append(hashes(*pair))
        except Exception as error:  # whatever a peer raises is its result
            found.errors.append(in_words(error))
    return found


def in_words(error: Exception) -> str:
    """Return the first line of an exception."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:100]


def judged(found: Read, accepted: set, rejected: set) -> list[str]:
    """Return the cells of a reader: accepted pairs that it read, rejected ones, wrong ones, and errors."""
    got = set(found.pairs)
    wrong = len(got - accepted - rejected) + len(found.pairs) - len(got)
    errors = f"{len(found.errors)}, the first with {found.errors[0]}" if found.errors else "0"
    return [str(len(got & accepted)), str(len(got & rejected)), str(wrong), errors.replace("|", "\\|")]


if __name__ == "__main__":
    main()
