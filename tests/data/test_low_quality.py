import pickle
from itertools import islice

import lightning as L
import numpy as np
import pytest
import torch
from listener import Listener, Ranks
from PIL import Image

from ddpm_pairs.data import LowQualityImages
from ddpm_pairs.data.endless import split
from ddpm_pairs.images.find import Failure, Picture

SILENT = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
}


@pytest.fixture
def folder(tmp_path):
    """Eleven pictures of one flat colour each, told apart by their red: 10, 20, ..."""
    root = tmp_path / "lq"
    root.mkdir()
    for number in range(1, 12):
        Image.new("RGB", (40, 33), (10 * number, 7, 200)).save(root / f"p{number:02}.png")
    return root


def module(root, rank=0, world_size=1, global_step=0, **options):
    options = {"crop_size": 16, "batch_size": 4, "num_workers": 0} | options
    data = LowQualityImages(str(root), **options)
    data.find()
    data.trainer = Ranks(rank, world_size, global_step)
    return data


def stream(data, batches):
    """Red of the first pixel of each sample, batch by batch."""
    return [batch["lq"][:, 0, 0, 0].tolist() for batch in islice(data.train_dataloader(), batches)]


def spoil(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.fixture
def photo_folder(tmp_path, photos):
    root = tmp_path / "photos"
    root.mkdir()
    for number, photo in enumerate(photos):
        Image.fromarray(photo).save(root / f"{number}.png")
    return root


# Training order


def test_every_picture_once_an_epoch_in_changing_order(folder):
    data = module(folder, val_dir=str(folder))
    reds = sum(stream(data, 11), [])
    epochs = [reds[i : i + 11] for i in range(0, 44, 11)]
    assert all(sorted(epoch) == [10 * n for n in range(1, 12)] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert stream(module(folder, val_dir=str(folder), seed=1), 11) != stream(data, 11)


def test_two_ranks_partition_the_stream(folder):
    alone = sum(stream(module(folder, batch_size=8), 3), [])
    ranks = [sum(stream(module(folder, rank, 2), 3), []) for rank in range(2)]
    assert [red for together in zip(*ranks, strict=True) for red in together] == alone


def test_a_step_is_batch_times_accumulation_times_ranks(folder):
    data = module(folder, val_dir=str(folder))
    unbroken = sum(stream(data, 12), [])
    later = module(folder, val_dir=str(folder), rank=1, world_size=2, global_step=1)
    later.trainer.accumulate_grad_batches = 3
    assert stream(later, 1)[0] == unbroken[1 * 3 * 4 * 2 + 1 :: 2][:4]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumed_fit_sees_what_an_unbroken_one_would(photo_folder, tmp_path, num_workers):
    def fit(steps, ckpt_path=None):
        model = Listener()
        data = LowQualityImages(str(photo_folder), crop_size=16, batch_size=3, num_workers=num_workers, seed=4)
        trainer = L.Trainer(
            max_steps=steps,
            accumulate_grad_batches=2,
            limit_val_batches=0,
            enable_checkpointing=False,
            default_root_dir=tmp_path,
            **SILENT,
        )
        trainer.fit(model, data, ckpt_path=ckpt_path)
        return trainer, torch.cat([batch["lq"] for batch in model.seen])

    _, unbroken = fit(5)
    trainer, first = fit(2)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    _, rest = fit(5, tmp_path / "two.ckpt")
    assert len(unbroken) == 5 * 2 * 3
    assert torch.equal(torch.cat([first, rest]), unbroken)


def test_limited_epochs_go_on_instead_of_starting_over(photo_folder, tmp_path):
    model = Listener()
    data = LowQualityImages(str(photo_folder), crop_size=16, batch_size=3, num_workers=0)
    trainer = L.Trainer(
        max_steps=6, limit_train_batches=2, enable_checkpointing=False, default_root_dir=tmp_path, **SILENT
    )
    trainer.fit(model, data)
    expected = torch.cat([batch["lq"] for batch in islice(module(photo_folder, batch_size=3).train_dataloader(), 6)])
    assert torch.equal(torch.cat([batch["lq"] for batch in model.seen]), expected / 255)


# Batches


def test_batches_of_a_fit(photo_folder, tmp_path, photos):
    model = Listener()
    data = LowQualityImages(str(photo_folder), crop_size=32, batch_size=5, num_workers=0, flip=False)
    L.Trainer(max_steps=2, enable_checkpointing=False, default_root_dir=tmp_path, **SILENT).fit(model, data)
    batch = model.seen[0]
    assert set(batch) == {"lq"}
    assert batch["lq"].shape == (5, 3, 32, 32) and batch["lq"].dtype == torch.float32
    windows = [np.lib.stride_tricks.sliding_window_view(photo, (32, 32, 3)).reshape(-1, 32, 32, 3) for photo in photos]
    for crop in batch["lq"]:
        pixels = (crop.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        assert any((view == pixels).all((1, 2, 3)).any() for view in windows)
        assert np.array_equal(crop.permute(1, 2, 0).numpy(), pixels.astype(np.float32) / np.float32(255))


def test_crops_differ_between_epochs_of_one_picture(tmp_path, photos):
    Image.fromarray(photos[0]).save(tmp_path / "only.png")
    data = module(tmp_path)
    assert [p.key for p in data.train_pictures] == [p.key for p in data.val_pictures] == ["only"]
    (batch,) = islice(data.train_dataloader(), 1)
    assert len({crop.numpy().tobytes() for crop in batch["lq"]}) == 4


def test_the_dataset_can_be_sent_to_a_process(folder):
    dataset = pickle.loads(pickle.dumps(module(folder).train_dataloader().dataset))
    assert torch.equal(dataset[3][0], module(folder).train_dataloader().dataset[3][0])


# Validation


def pictures(*names):
    return [Picture(name, None, name + ".png") for name in names]


def test_split_is_stable_when_pictures_are_added():
    few = pictures(*(f"face/{i}" for i in range(300)))
    train, val = split(few, 0.1)
    more_train, more_val = split(few + pictures(*(f"new/{i}" for i in range(300))), 0.1)
    assert set(train) <= set(more_train) and set(val) <= set(more_val)
    assert len(train) + len(val) == 300 and not set(train) & set(val)
    assert 13 <= len(val) <= 47  # binomial: 30 with a standard deviation of 5.2


@pytest.mark.parametrize("fraction", [0, 0.05, 0.999])
@pytest.mark.parametrize("n", [2, 3, 10])
def test_split_leaves_no_side_empty(n, fraction):
    few = pictures(*map(str, range(n)))
    train, val = split(few, fraction)
    assert train and val and sorted(train + val, key=few.index) == few


def test_validation_crops_are_fixed_by_key(photo_folder, tmp_path):
    def crops(**options):
        data = module(photo_folder, val_dir=str(photo_folder), **options)
        return {
            key: crop for batch in data.val_dataloader() for key, crop in zip(batch["key"], batch["lq"], strict=True)
        }

    first = crops()
    assert list(first) == ["0", "1", "2", "3"]
    Image.open(photo_folder / "0.png").save(photo_folder / "0a.png")
    for again in (crops(seed=9), crops(batch_size=3), crops(flip=False)):
        assert all(torch.equal(again[key], first[key]) for key in first)
    assert not torch.equal(crops()["0a"], first["0"])


def test_validation_is_strided_over_ranks_without_padding(folder):
    data = [module(folder, rank, 3, val_dir=str(folder)) for rank in range(3)]
    keys = [[key for batch in d.val_dataloader() for key in batch["key"]] for d in data]
    everything = [f"p{number:02}" for number in range(1, 12)]
    assert keys == [everything[rank::3] for rank in range(3)]


def test_validation_batches_of_a_fit(folder, tmp_path):
    model = Listener()
    data = LowQualityImages(str(folder), crop_size=16, batch_size=4, val_dir=str(folder), num_workers=0)
    trainer = L.Trainer(enable_checkpointing=False, default_root_dir=tmp_path, **SILENT)
    trainer.validate(model, data, verbose=False)
    assert [len(batch["key"]) for batch in model.seen_val] == [4, 4, 3]
    assert all(set(batch) == {"lq", "key"} for batch in model.seen_val)
    assert model.seen_val[0]["lq"][:, 0, 3, 3].tolist() == pytest.approx([10 / 255, 20 / 255, 30 / 255, 40 / 255])


def test_fewer_validation_pictures_than_ranks(folder):
    data = module(folder, world_size=9, val_fraction=0)
    with pytest.raises(ValueError, match=r"got 1 validation samples; expected 9 or more, one per rank"):
        data.setup("fit")


# What cannot be used


def test_unusable_files_are_found_by_their_headers(folder):
    Image.new("RGB", (15, 100)).save(folder / "thin.png")
    Image.new("RGB", (3, 3)).save(folder / "tiny.png")
    (folder / "empty.jpg").touch()
    (folder / "text.png").write_text("text")
    (folder / "notes.txt").write_text("text")
    data = module(folder)
    assert [failure.source for failure in data.failures] == [
        "empty.jpg",
        "notes.txt",
        "text.png",
        "thin.png",
        "tiny.png",
    ]
    assert data.failures[3] == Failure("thin.png", "got 15x100 px; expected 16 px or more per side")
    assert len(data.train_pictures) + len(data.val_pictures) == 11
    data.find()
    assert len(data.failures) == 5


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_broken_picture_is_replaced_by_the_next_and_reported(folder, tmp_path, num_workers):
    data = module(folder, val_dir=str(folder))
    intact = sum(stream(data, 11), [])
    spoil(folder / "p03.png")
    spoil(folder / "p08.png")
    model = Listener()
    data = LowQualityImages(str(folder), crop_size=16, batch_size=4, val_dir=str(folder), num_workers=num_workers)
    trainer = L.Trainer(max_steps=11, enable_checkpointing=False, default_root_dir=tmp_path, **SILENT)
    with pytest.warns(UserWarning) as caught:
        trainer.fit(model, data)
    assert sorted(failure.source for failure in data.failures) == ["p03.png", "p08.png"]
    assert all("truncated" in failure.reason for failure in data.failures)
    assert sum("is left out" in str(warning.message) for warning in caught) == 2
    expected = []
    for i, red in enumerate(intact):
        epoch, place = intact[i // 11 * 11 : i // 11 * 11 + 11], i % 11
        while red in (30, 80):
            place = (place + 1) % 11
            red = epoch[place]
        expected.append(red)
    seen = torch.cat([batch["lq"][:, 0, 0, 0] for batch in model.seen])
    assert (seen * 255).round().tolist() == expected
    sanity = [key for batch in model.seen_val for key in batch["key"]]
    assert "p03" not in sanity and sanity[:4] == ["p01", "p02", "p04", "p04"]


def test_nothing_readable_at_all(folder):
    for path in folder.iterdir():
        spoil(path)
    with pytest.raises(ValueError, match="none of the images can be decoded"):
        stream(module(folder), 1)


def test_nothing_usable_at_all(tmp_path):
    Image.new("RGB", (3, 3)).save(tmp_path / "tiny.png")
    with pytest.raises(ValueError, match=r"--data.lq_dir: none of the 1 images .*tiny.png: got 3x3 px"):
        module(tmp_path)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"batch_size": 0}, "--data.batch_size: got 0"),
        ({"num_workers": -1}, "--data.num_workers: got -1"),
        ({"crop_size": 0}, "--data.crop_size: got 0"),
        ({"center_crop": 8}, "--data.center_crop: got 8"),
        ({"val_fraction": 1.0}, "--data.val_fraction: got 1.0"),
        ({"lq_dir": "nowhere"}, "--data.lq_dir: there is no folder 'nowhere'"),
        ({"val_dir": "nowhere"}, "--data.val_dir: there is no folder 'nowhere'"),
    ],
)
def test_errors_name_the_option_in_one_line(folder, options, text):
    with pytest.raises(ValueError) as caught:
        module(**({"root": folder} if "lq_dir" not in options else {"root": options.pop("lq_dir")}), **options)
    assert str(caught.value).startswith(text) and "\n" not in str(caught.value)
