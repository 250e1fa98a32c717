"""A pairs folder to pack, and packed copies read as `--data.pairs_dir`."""

from listener import Ranks

from ddpm_pairs.data import RestorationPairs
from ddpm_pairs.pairset.sources import find_pairs

KEYS = [*(f"n{number:02}" for number in range(34)), "B", "a.b~1", "a.b", "d 1~2", "e%2E", "sub.x/c", "é/ü.1", "a,b"]
REJECTED = {"n03", "sub.x/c"}
FORMS = ["webdataset", "lmdb"]


def module(places, **options):
    options = {"crop_size": 64, "batch_size": 4, "num_workers": 0, "val_fraction": 0.3} | options
    data = RestorationPairs(places if isinstance(places, list) else str(places), **options)
    data.find()
    data.trainer = Ranks(0, 1, 0)
    return data


def found(place, **options):
    return find_pairs(str(place), "--data.pairs_dir", **options)
