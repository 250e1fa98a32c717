"""A process that dies, as by kill -9, in the middle of writing a pairs folder, and what it left."""

import itertools
import json
import os
import sys
from hashlib import sha256

from PIL import Image

WATCHED = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"}


def die_at(step, root):
    """Let this process die, as by kill -9, at the n-th step of its work below `root`.

    Every change of the folder is a step, just before it; opening a file to write is two, the second in the middle of
    writing.
    """
    prefix, steps = os.fspath(root), itertools.count(1)

    def watch(event, arguments):
        if event not in WATCHED or not isinstance(arguments[0], (str, os.PathLike)):
            return
        path = os.fspath(arguments[0])
        if not path.startswith(prefix):
            return
        if event != "open":
            if next(steps) == step:
                os._exit(9)
        elif arguments[2] & (os.O_WRONLY | os.O_RDWR):
            if next(steps) == step:
                os._exit(9)
            if next(steps) == step:
                os.write(os.open(path, (arguments[2] | os.O_CREAT) & ~os.O_EXCL, 0o644), b'{"key": "half')
                os._exit(9)

    sys.addaudithook(watch)


def whole_pairs(root):
    """Keys whose line a dead run left; pictures in their place are whole, and no line lacks its files."""
    for kind in ("hq", "lq"):
        for path in (root / kind).rglob("*.png"):
            Image.open(path).load()
    keys = set()
    for path in root.glob("manifest*.jsonl"):
        for line in path.read_text().splitlines():
            if line.endswith("}"):
                record = json.loads(line)
                assert (root / record["hq"]).is_file()
                assert sha256((root / record["lq"]).read_bytes()).hexdigest() == record["lq_sha256"]
                keys.add(record["key"])
    return keys
