"""Packed pairs give the same samples as the folder that they were packed from."""

import pickle
from itertools import islice

import numpy as np
import pytest
import torch
from packed_pairs import KEYS, REJECTED, found, module
from picture_pairs import flat_pairs

from ddpm_pairs.data.pair_samples import decode_pair
from ddpm_pairs.pairset.pack import pack


def assert_same(one, other):
    for batch, twin in zip(one, other, strict=True):
        assert batch["key"] == twin["key"]
        assert torch.equal(batch["hq"], twin["hq"]) and torch.equal(batch["lq"], twin["lq"])


@pytest.mark.parametrize("workers", [0, 2])
def test_same_samples_as_of_the_folder(made, form, workers):
    of_folder, packed = module(made / "folder"), module(made / form, num_workers=workers)
    assert packed.scale == 4 and packed.failures == [] and len(packed.pairs) == len(KEYS) - len(REJECTED)
    for name in ("pairs", "val_pairs"):
        assert [pair.key for pair in getattr(packed, name)] == [pair.key for pair in getattr(of_folder, name)]
    decode_pair(packed.pairs[0])  # loaders inherit nothing from a process that has already read
    batches = len(KEYS) // 4 + 3  # more than an epoch
    assert_same(*(islice(data.train_dataloader(), batches) for data in (packed, of_folder)))
    assert_same(packed.val_dataloader(), of_folder.val_dataloader())
    assert_same(packed.test_dataloader(), of_folder.test_dataloader())


def test_files_are_those_of_the_folder(made, form):
    for pair in found(made / form).pairs:
        for side, picture in (("hq", pair.hq), ("lq", pair.lq)):
            assert picture.file() == (made / "folder" / side / f"{pair.key}.png").read_bytes()


def test_samples_can_be_sent_to_a_process(made, form):
    samples = module(made / form).training_samples()
    assert torch.equal(pickle.loads(pickle.dumps(samples))[3].hq, samples[3].hq)


def test_psnr_and_content(made, form):
    """LMDB does not record the PSNR. It is computed if there is a floor."""
    of_folder, packed = found(made / "folder"), found(made / form)
    assert [pair.content for pair in packed.pairs] == [pair.content for pair in of_folder.pairs]
    told = [pair.psnr if form == "webdataset" else None for pair in of_folder.pairs]
    assert [pair.psnr for pair in packed.pairs] == told
    floor = float(np.median([pair.psnr for pair in of_folder.pairs])) + 1e-3
    kept = [{pair.key for pair in module(made / one, psnr_floor=floor).pairs} for one in ("folder", form)]
    assert kept[0] - {"B"} == kept[1] - {"B"} and 10 < len(kept[1]) < 30


def test_rejected_pairs(made, form, tmp_path):
    pack(made / "folder", tmp_path / "all", form, include_rejected=True)
    some = found(tmp_path / "all")
    if form == "webdataset":
        assert some.rejected == 2 and len(some.pairs) == len(KEYS) - 2
        some = found(tmp_path / "all", include_rejected=True)
    assert some.rejected == 0 and sorted(KEYS) == [pair.key for pair in some.pairs]


def test_beside_another_place(made, form, tmp_path):
    data = module([str(made / form), str(flat_pairs(tmp_path / "flat", [1, 2, 3, 4]))], mix=[1, 1])
    assert data.pairs[0].key == f"{form}/B" and data.pairs[0].hq.source.startswith(f"{form}/")
    keys = sum((batch["key"] for batch in islice(data.train_dataloader(), 6)), [])
    assert sum(key.startswith("flat/") for key in keys) == 12
