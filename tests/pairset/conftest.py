"""Packed copies of one pairs folder."""

import json
import shutil

import numpy as np
import pytest
import torch
from packed_pairs import FORMS, KEYS, REJECTED
from picture_pairs import save_pair

from ddpm_pairs.images.pixels import psnr_of
from ddpm_pairs.pairset.pack import pack


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A pairs folder of x4 noise, which fills two shards of 1 MB, and its packed copies in both formats."""
    random = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("packed")
    lines = []
    for number, key in enumerate(KEYS):
        height, width = (96, 128) if number % 3 else (112, 80)
        lq = random.integers(0, 256, (height // 4, width // 4, 3), np.uint8)
        hq = lq.repeat(4, 0).repeat(4, 1) // 2 + random.integers(0, 64, (height, width, 3), np.uint8)
        save_pair(root / "folder", key, hq, lq)
        psnr = psnr_of(*(torch.from_numpy(side.transpose(2, 0, 1).copy()) for side in (hq, lq)))
        record = {"key": key, "hq": f"hq/{key}.png", "lq": f"lq/{key}.png", "psnr": None if key == "B" else psnr}
        sizes = {"hq_size": [width, height], "lq_size": [width // 4, height // 4]}
        lines.append(json.dumps(record | sizes | {"accepted": key not in REJECTED}, ensure_ascii=False))
    (root / "folder" / "manifest.jsonl").write_text("".join(f"{line}\n" for line in lines))
    packed = pack(root / "folder", root / "webdataset", "webdataset", shard_mb=1)
    assert packed.files == ["pairs-000000.tar", "pairs-000001.tar"]
    try:
        pack(root / "folder", root / "lmdb", "lmdb")
    except ValueError as error:
        assert "pip install lmdb" in str(error)
    return root


@pytest.fixture(params=FORMS)
def form(request):
    if request.param == "lmdb":
        pytest.importorskip("lmdb", reason="needs the lmdb package")
    return request.param


@pytest.fixture
def shards(made, tmp_path):
    """A copy of the shards that the test may damage."""
    return shutil.copytree(made / "webdataset", tmp_path / "shards")


@pytest.fixture
def lmdb_folders(made, tmp_path):
    """A copy of the LMDB folders that the test may damage."""
    pytest.importorskip("lmdb", reason="needs the lmdb package")
    return shutil.copytree(made / "lmdb", tmp_path / "lmdb")
