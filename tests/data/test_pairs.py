import math
import pickle
import warnings
from itertools import islice

import lightning as L
import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from listener import Listener, Ranks
from picture_pairs import flat_pairs, save_pair, spoil, write_manifest
from PIL import Image

from ddpm_pairs.data import RestorationPairs, pair_samples
from ddpm_pairs.data.base import PictureDataModule
from ddpm_pairs.data.pair_samples import place_of

SILENT = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "use_distributed_sampler": False,
}


class Keeper(Listener):
    """Keeps the batches of test and predict too."""

    def test_step(self, batch, batch_idx):
        self.seen.append(batch)

    def predict_step(self, batch, batch_idx):
        self.seen.append(batch)


@pytest.fixture
def folder(tmp_path):
    """Eleven x4 pairs of one flat colour each, told apart by their red: 10, 20, ..."""
    return flat_pairs(tmp_path / "pairs", range(10, 120, 10))


def module(pairs_dir, rank=0, world_size=1, global_step=0, **options):
    options = {"crop_size": 16, "batch_size": 4, "num_workers": 0} | options
    places = [str(place) for place in pairs_dir] if isinstance(pairs_dir, list) else str(pairs_dir)
    data = RestorationPairs(places, **options)
    data.find()
    data.trainer = Ranks(rank, world_size, global_step)
    return data


def stream(data, batches):
    """Red of the first pixel of each sample, batch by batch."""
    return [batch["lq"][:, 0, 0, 0].tolist() for batch in islice(data.train_dataloader(), batches)]


@pytest.fixture
def photo_pairs(tmp_path, photos):
    for number, photo in enumerate(photos):
        save_pair(tmp_path / "photos", str(number), photo, photo[::4, ::4])
    return tmp_path / "photos"


# Training order


def test_every_pair_once_an_epoch_in_changing_order(folder):
    data = module(folder, val_dir=str(folder))
    reds = sum(stream(data, 11), [])
    epochs = [reds[i : i + 11] for i in range(0, 44, 11)]
    assert all(sorted(epoch) == list(range(10, 120, 10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert stream(module(folder, val_dir=str(folder), seed=1), 11) != stream(data, 11)


def test_samples_do_not_depend_on_workers(photo_pairs):
    def samples(workers):
        return list(islice(module(photo_pairs, num_workers=workers).train_dataloader(), 4))

    for alone, shared in zip(samples(0), samples(3), strict=True):
        assert alone["key"] == shared["key"]
        assert torch.equal(alone["lq"], shared["lq"]) and torch.equal(alone["hq"], shared["hq"])


def test_two_ranks_see_what_one_would(photo_pairs):
    alone = [batch["hq"] for batch in islice(module(photo_pairs, batch_size=8).train_dataloader(), 3)]
    ranks = [list(islice(module(photo_pairs, rank, 2).train_dataloader(), 3)) for rank in range(2)]
    together = [torch.stack([a["hq"], b["hq"]], 1).flatten(0, 1) for a, b in zip(*ranks, strict=True)]
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


@pytest.mark.filterwarnings(
    "ignore:LQ appears shifted"
)  # correct as is: every fourth pixel is 1.5 px away from the center of its block
@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumed_fit_sees_what_an_unbroken_one_would(photo_pairs, tmp_path, num_workers):
    other = flat_pairs(tmp_path / "flat", [1, 2, 3])

    def fit(steps, ckpt_path=None):
        model = Keeper()
        data = RestorationPairs(
            [str(photo_pairs), str(other)], mix=[2, 1], crop_size=16, batch_size=3, num_workers=num_workers, seed=4
        )
        trainer = L.Trainer(
            max_steps=steps, accumulate_grad_batches=2, limit_val_batches=0, default_root_dir=tmp_path, **SILENT
        )
        trainer.fit(model, data, ckpt_path=ckpt_path)
        return trainer, torch.cat([batch["hq"] for batch in model.seen]), sum((b["key"] for b in model.seen), [])

    _, unbroken, keys = fit(5)
    trainer, first, first_keys = fit(2)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    _, rest, rest_keys = fit(5, tmp_path / "two.ckpt")
    assert len(unbroken) == 5 * 2 * 3
    assert torch.equal(torch.cat([first, rest]), unbroken) and first_keys + rest_keys == keys


# Crops


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_sides_of_a_batch_belong_together(tmp_path, scale):
    """HQ tells by red and green which LQ pixel it belongs to, by blue whether the pair is the same."""
    for number, shape in enumerate([(30, 41), (5, 9)]):
        rows, columns = np.mgrid[: shape[0], : shape[1]]
        lq = np.dstack([3 * rows, 3 * columns, 0 * rows + number]).astype(np.uint8)
        save_pair(tmp_path, f"p{number}", lq.repeat(scale, 0).repeat(scale, 1), lq)
    data = module(tmp_path, crop_size=8 * scale, batch_size=40, val_dir=str(tmp_path))
    for batch in (*islice(data.train_dataloader(), 2), *data.val_dataloader()):
        assert batch["hq"].shape[1:] == (3, 8 * scale, 8 * scale) and batch["lq"].shape[1:] == (3, 8, 8)
        enlarged = batch["lq"].repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        assert torch.equal(enlarged, batch["hq"])
        assert [f"p{number}" for number in batch["lq"][:, 2, 0, 0].tolist()] == batch["key"]
    whole = next(iter(data.test_dataloader()))
    assert whole["hq"].shape == (1, 3, 30 * scale, 41 * scale) and whole["lq"].shape == (1, 3, 30, 41)


@pytest.mark.filterwarnings("ignore:LQ appears shifted")
def test_batches_of_a_fit(photo_pairs, photos, tmp_path):
    model = Keeper()
    data = RestorationPairs(str(photo_pairs), crop_size=32, batch_size=5, num_workers=0, flip=False, rotate=False)
    L.Trainer(max_steps=2, default_root_dir=tmp_path, **SILENT).fit(model, data)
    batch = model.seen[0]
    assert set(batch) == {"hq", "lq", "key"} and data.scale == 4
    assert batch["hq"].shape == (5, 3, 32, 32) and batch["hq"].dtype == batch["lq"].dtype == torch.float32
    for key, hq, lq in zip(batch["key"], batch["hq"], batch["lq"], strict=True):
        assert torch.equal(hq[:, ::4, ::4], lq)
        views = np.lib.stride_tricks.sliding_window_view(photos[int(key)][:, :, 0], (32, 32))
        assert (views == (hq[0] * 255).round().byte().numpy()).all((2, 3)).any()


def test_without_cache_and_beyond_it_samples_are_the_same(photo_pairs, monkeypatch):
    cached = [batch["hq"] for batch in islice(module(photo_pairs).train_dataloader(), 5)]
    for room in (0, 40_000):  # one pair has 96 x 128 x 3 x 17 / 16 = 39,168 bytes
        monkeypatch.setattr(pair_samples, "CACHE_BYTES", room)
        dataset = module(photo_pairs).training_samples()
        for i in range(20):
            assert torch.equal(dataset[i].hq, cached[i // 4][i % 4])
        assert len(dataset._decoded._kept) == (room > 0)


def test_the_dataset_can_be_sent_to_a_process(folder):
    dataset = module(folder).training_samples()
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[3].hq, dataset[3].hq)


# Several places


def test_shares_of_places(tmp_path):
    places = [
        flat_pairs(tmp_path / name, numbers) for name, numbers in (("a", [1, 2]), ("b", range(11, 20)), ("c", [31]))
    ]
    data = module(places, mix=[3, 1, 2], val_dir=str(places[0]))
    reds = np.array(sum(stream(data, 300), []))
    counts = np.histogram(reds, [0, 10, 30, 40])[0]
    for count, share in zip(counts, (1 / 2, 1 / 6, 1 / 3), strict=True):
        assert abs(count - 1200 * share) < 4 * math.sqrt(1200 * share * (1 - share))
    # Each place on its own visits each pair once an epoch.
    of_b = reds[(reds > 10) & (reds < 30)]
    for i in range(0, len(of_b) // 9 * 9, 9):
        assert sorted(of_b[i : i + 9]) == list(range(11, 20))


def test_without_mix_shares_go_by_the_number_of_pairs(tmp_path):
    places = [flat_pairs(tmp_path / name, numbers) for name, numbers in (("a", range(1, 4)), ("b", range(11, 20)))]
    data = module(places, val_dir=str(places[0]))
    reds = np.array(sum(stream(data, 30), []))
    assert abs((reds < 10).sum() - 30) <= 1


@pytest.mark.parametrize("shares", [[1.0], [0.5, 0.5], [3.0, 1.0, 2.0], [1e-3, 5.0, 0.7, 1 / 3]])
def test_each_sample_has_one_place_and_each_place_counts_its_own(shares):
    counted = [0] * len(shares)
    for i in range(5000):
        folder, j = place_of(i, shares)
        assert j == counted[folder]
        counted[folder] += 1
        for count, share in zip(counted, shares, strict=True):
            assert abs(count - (i + 1) * share / sum(shares)) < len(shares)


def test_keys_of_several_places_differ_and_one_content_stays_on_one_side(tmp_path):
    numbers = range(1, 61)
    places = [flat_pairs(tmp_path / name, numbers) for name in ("real", "made")]
    for number in (1, 2, 3, 4):
        save_pair(places[1], f"p{number:03}~1", *[np.full((side, side, 3), number, np.uint8) for side in (32, 8)])
    data = module(places, val_fraction=0.3)
    train, val = {p.key for place in data.train_pairs for p in place}, {p.key for p in data.val_pairs}
    assert len(train) + len(val) == 124 and not train & val and len(val) > 10

    def contents(keys):
        return {key.split("/")[1].split("~")[0] for key in keys}

    assert not contents(train) & contents(val)
    assert {p.key.split("/")[0] for p in data.train_pairs[0]} == {"real"}


def test_a_place_without_training_pairs(tmp_path):
    many, one = flat_pairs(tmp_path / "many", range(1, 60)), flat_pairs(tmp_path / "one", [1])
    keys = [pair.key for pair in module(many, val_fraction=0.5).val_pairs]
    (one / "hq" / "p001.png").rename(one / "hq" / f"{keys[0]}.png")
    (one / "lq" / "p001.png").rename(one / "lq" / f"{keys[0]}.png")
    with pytest.raises(ValueError, match=r"--data.pairs_dir: all pairs in .*one.* were assigned to validation"):
        module([many, one], val_fraction=0.5)


# Validation and test


def test_validation_crops_are_central_and_fixed(photo_pairs, photos):
    def crops(**options):
        data = module(photo_pairs, crop_size=32, val_dir=str(photo_pairs), **options)
        return {key: hq for batch in data.val_dataloader() for key, hq in zip(batch["key"], batch["hq"], strict=True)}

    first = crops()
    assert list(first) == ["0", "1", "2", "3"]
    assert np.array_equal(first["2"].permute(1, 2, 0).numpy(), photos[2][32:64, 48:80])
    for again in (crops(seed=9), crops(batch_size=3)):
        assert all(torch.equal(again[key], first[key]) for key in first)


@pytest.mark.parametrize("loader", ["val_dataloader", "test_dataloader"])
def test_pairs_are_strided_over_ranks_without_padding(folder, loader):
    keys = [
        [key for batch in getattr(module(folder, rank, 3, val_dir=str(folder)), loader)() for key in batch["key"]]
        for rank in range(3)
    ]
    everything = [f"p{number:03}" for number in range(10, 120, 10)]
    assert keys == [everything[rank::3] for rank in range(3)]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_test_goes_over_whole_pairs_and_passes_over_broken_ones(photo_pairs, photos, tmp_path, num_workers):
    save_pair(photo_pairs, "0broken", photos[0], photos[0][::4, ::4])
    save_pair(photo_pairs, "9", photos[0], photos[0][::4, ::4])
    spoil(photo_pairs / "hq" / "0broken.png")
    spoil(photo_pairs / "lq" / "9.png")
    model = Keeper()
    data = RestorationPairs(str(photo_pairs), num_workers=num_workers)
    trainer = L.Trainer(default_root_dir=tmp_path, **SILENT)
    with pytest.warns(UserWarning, match="is left out"):
        trainer.test(model, data, verbose=False)
    assert [batch["key"] for batch in model.seen] == [["0"], ["1"], ["2"], ["3"]]
    assert torch.equal(model.seen[1]["hq"][0], torch.from_numpy(photos[1].copy()).permute(2, 0, 1) / 255)
    assert model.seen[1]["lq"].shape == (1, 3, 24, 32) and model.seen[1]["lq"].dtype == torch.float32
    assert [failure.source for failure in data.failures] == ["hq/0broken.png", "lq/9.png"]


def test_fewer_validation_pairs_than_ranks(folder):
    data = module(folder, world_size=9, val_fraction=0)
    with pytest.raises(ValueError, match=r"got 1 validation samples; expected 9 or more, one per rank"):
        data.setup("fit")
    data.setup("test")


# Predict


def test_pictures_to_restore_keep_their_alpha(tmp_path, photos):
    Image.fromarray(photos[0]).save(tmp_path / "a.png")
    (tmp_path / "sub").mkdir()
    alpha = np.arange(96 * 128).reshape(96, 128).astype(np.uint8)
    Image.fromarray(np.dstack([photos[1], alpha])).save(tmp_path / "sub" / "b.png")
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20)).save(tmp_path / "c.png")
    (tmp_path / "notes.txt").touch()
    data = RestorationPairs(lq_dir=str(tmp_path), num_workers=0)
    model = Keeper()
    trainer = L.Trainer(default_root_dir=tmp_path, **SILENT)
    trainer.predict(model, data, return_predictions=False)
    a, c, b = model.seen
    assert data.scale is None and [picture.key for picture in data.pictures] == ["a", "c", "sub/b"]
    assert [failure.source for failure in data.failures] == ["notes.txt"]
    (a,), (b,) = a["pictures"], b["pictures"]
    assert (a.key, b.key, b.source) == ("a", "sub/b", "sub/b.png") and a.alpha is None
    assert a.lq.dtype == torch.uint8 and np.array_equal(a.lq.permute(1, 2, 0).numpy(), photos[0])
    assert np.array_equal(b.lq.permute(1, 2, 0).numpy(), photos[1]) and np.array_equal(b.alpha.numpy(), alpha)
    assert c["pictures"] == []
    assert [(f.source, "16-bit samples" in f.reason) for f in c["failures"]] == [("c.png", True)]


def test_what_was_scheduled_is_restored(tmp_path, photos):
    for name in "abcd":
        Image.fromarray(photos[0]).save(tmp_path / f"{name}.png")
    data = RestorationPairs(lq_dir=str(tmp_path), num_workers=0)
    data.find()
    data.schedule([[picture] for picture in data.pictures[1:]])

    def keys(rank):
        data.trainer = Ranks(rank, 2)
        return [[picture.key for picture in batch["pictures"]] for batch in data.predict_dataloader()]

    assert keys(0) == [["b"], ["d"]] and keys(1) == [["c"]]
    data.schedule([])
    assert keys(0) == [[]]


# What cannot be used


def test_rejected_and_missing_pairs_are_counted_and_listed(folder):
    keys = [f"p{number:03}" for number in range(10, 120, 10)]
    write_manifest(folder, keys, accepted={"p010": False, "p020": False}, psnr=dict.fromkeys(keys[5:], 4.0))
    (folder / "lq" / "p030.png").unlink()
    spoil(folder / "hq" / "p050.png")
    data = module(folder, psnr_floor=4.5)
    assert data.rejected == 2 and [pair.key for pair in data.pairs] == ["p040"]
    assert [failure.source for failure in data.failures] == [
        "lq/p030.png",
        "hq/p050.png",
        *(f"lq/{key}.png" for key in keys[5:]),
    ]
    assert module(folder, include_rejected=True).rejected == 0


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_broken_pair_is_replaced_by_the_next_and_reported(folder, tmp_path, num_workers):
    intact = sum(stream(module(folder, val_dir=str(folder)), 11), [])
    spoil(folder / "hq" / "p030.png")
    spoil(folder / "lq" / "p080.png")
    model = Keeper()
    data = RestorationPairs(str(folder), crop_size=16, batch_size=4, val_dir=str(folder), num_workers=num_workers)
    trainer = L.Trainer(max_steps=11, default_root_dir=tmp_path, **SILENT)
    with pytest.warns(UserWarning, match="is left out"):
        trainer.fit(model, data)
    assert sorted(failure.source for failure in data.failures) == ["hq/p030.png", "lq/p080.png"]
    expected = []
    for i, red in enumerate(intact):
        epoch, place = intact[i // 11 * 11 : i // 11 * 11 + 11], i % 11
        while red in (30, 80):
            place = (place + 1) % 11
            red = epoch[place]
        expected.append(red)
    seen = torch.cat([batch["lq"][:, 0, 0, 0] for batch in model.seen])
    assert (seen * 255).round().tolist() == expected


def test_a_shift_is_warned_of_before_a_fit_once_and_on_one_rank(tmp_path, photos):
    for number, photo in enumerate(photos):
        right = 6 * (number != 1)
        lq = np.roll(photo, right, 1)[:, 8:120].reshape(24, 4, 28, 4, 3).mean((1, 3)).astype(np.uint8)
        save_pair(tmp_path, f"p{number}", photo[:, 8:120], lq)
    data = module(tmp_path, val_dir=str(tmp_path))
    with pytest.warns(UserWarning) as caught:
        data.setup("fit")
    (text,) = [str(warning.message) for warning in caught]
    assert text.startswith(
        "LQ appears shifted relative to HQ by more than 1 HQ pixel (down, right) in 3 of 4 checked pairs: p0 ("
    )
    assert "p1" not in text and "estimate is uncertain" in text and "\n" not in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.setup("fit")
        module(tmp_path, val_dir=str(tmp_path)).setup("test")
        module(tmp_path, rank=1, world_size=2, val_dir=str(tmp_path)).setup("fit")


def test_what_a_stage_needs(tmp_path, folder, photos):
    with pytest.raises(
        ValueError, match="^--data.pairs_dir: got none; expected pairs, or images to restore in --data.lq_dir"
    ):
        RestorationPairs().find()
    with pytest.raises(ValueError, match="^--data.lq_dir: got none; expected the folder"):
        module(folder).setup("predict")
    (tmp_path / "lq").mkdir()
    Image.fromarray(photos[0]).save(tmp_path / "lq" / "a.png")
    for stage in ("fit", "validate", "test"):
        with pytest.raises(ValueError, match=f"^--data.pairs_dir: got none; `{stage}` needs pairs"):
            RestorationPairs(lq_dir=str(tmp_path / "lq")).setup(stage)
    with pytest.raises(ValueError, match="^--data.crop_size: got 256; expected 48 or less"):
        RestorationPairs(str(folder)).setup("fit")
    both = RestorationPairs(str(folder), lq_dir=str(tmp_path / "lq"), crop_size=48)
    for stage in ("fit", "test", "predict"):
        both.setup(stage)
    assert both.scale == 4 and len(both.pictures) == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"batch_size": 0}, "--data.batch_size: got 0"),
        ({"crop_size": 0}, "--data.crop_size: got 0"),
        ({"crop_size": 18}, "--data.crop_size: got 18; expected a multiple of the scale, 4"),
        ({"val_fraction": 1.0}, "--data.val_fraction: got 1.0"),
        ({"mix": [1, 2]}, r"--data.mix: got [1, 2]; expected 1 positive weights"),
        ({"mix": [0]}, "--data.mix: got [0]"),
        ({"mix": [math.nan]}, "--data.mix: got [nan]"),
        ({"psnr_floor": 50}, "--data.pairs_dir: none of the 11 pairs"),
        ({"val_dir": "nowhere"}, "--data.val_dir: 'nowhere' does not exist"),
        ({"lq_dir": "nowhere"}, "--data.lq_dir: there is no folder 'nowhere'"),
        ({"pairs_dir": "nowhere"}, "--data.pairs_dir: 'nowhere' does not exist"),
        ({"pairs_dir": []}, "--data.pairs_dir: got none"),
    ],
)
def test_errors_name_the_option_in_one_line(folder, options, text):
    with pytest.raises(ValueError) as caught:
        module(**{"pairs_dir": folder} | options)
    assert str(caught.value).startswith(text) and "\n" not in str(caught.value)


# The command line


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("a", "a"), ("[a, b]", ["a", "b"]), ("['a']", ["a"])],
)
def test_one_place_or_several_can_be_typed(typed, expected):
    parser = ArgumentParser()
    parser.add_subclass_arguments(PictureDataModule, "data")
    words = [
        "--data=RestorationPairs",
        f"--data.pairs_dir={typed}",
        "--data.mix=[1]" if typed != "[a, b]" else "--data.mix=[1, 2]",
    ]
    data = parser.instantiate_classes(parser.parse_args(words)).data
    assert data.pairs_dir == expected and isinstance(data.mix[0], float)
