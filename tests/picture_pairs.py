"""Folders of pairs on disk."""

import json

import numpy as np
from PIL import Image


def save_pair(root, key, hq, lq):
    """Write hq/<key>.png and lq/<key>.png."""
    for side, picture in (("hq", hq), ("lq", lq)):
        path = root / side / f"{key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)


def flat_pair(number, height=48, width=40, scale=4):
    """One colour, told by its red; HQ has green 200, LQ 100."""
    hq = np.full((height, width, 3), (number, 200, 7), np.uint8)
    return hq, np.full((height // scale, width // scale, 3), (number, 100, 7), np.uint8)


def flat_pairs(root, numbers, scale=4, **size):
    """A folder of hq/ and lq/ whose pair p<number> is `flat_pair(number)`."""
    for number in numbers:
        save_pair(root, f"p{number:03}", *flat_pair(number, scale=scale, **size))
    return root


def write_manifest(root, keys, name="manifest.jsonl", **of_key):
    """Lines as in a pairs folder; `of_key` are further fields, a dict from key to value each."""
    lines = []
    for key in keys:
        more = {field: values[key] for field, values in of_key.items() if key in values}
        lines.append(json.dumps({"key": key, "hq": f"hq/{key}.png", "lq": f"lq/{key}.png", **more}))
    (root / name).write_text("".join(f"{line}\n" for line in lines))
    return root


def spoil(path):
    """Cut a PNG's end off, so that its header can be read and its pixels cannot."""
    path.write_bytes(path.read_bytes()[:-25])
