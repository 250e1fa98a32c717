import hashlib

import lightning as L
import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from listener import Ranks
from PIL import Image

import ddpm_pairs.data
from ddpm_pairs.data import HighQualityImages
from ddpm_pairs.data.base import PictureDataModule


class Keeper(L.LightningModule):
    """Keeps what arrives, and counts the hooks that a writer relies on."""

    def __init__(self):
        super().__init__()
        self.seen, self.ends = [], 0

    def predict_step(self, batch, batch_idx):
        self.seen.append(batch)
        return batch_idx

    def on_predict_end(self):
        self.ends += 1


def predict(data):
    model = Keeper()
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
    )
    trainer.predict(model, data, return_predictions=False)
    assert model.ends == 1
    return model.seen


def keys(batches):
    return [[picture.key for picture in batch["pictures"]] for batch in batches]


@pytest.fixture
def folder(tmp_path, photos):
    root = tmp_path / "hq"
    root.mkdir()
    for name, photo in zip("abcd", photos, strict=True):
        Image.fromarray(photo[: 40 + ord(name) % 10]).save(root / f"{name}.png")
    return root


@pytest.mark.parametrize("num_workers", [0, 2])
def test_schedule_is_followed_in_order(folder, photos, num_workers):
    data = HighQualityImages(str(folder), num_workers=num_workers)
    data.find()
    by_key = {picture.key: picture for picture in data.pictures}
    order = [["c"], ["a", "d"], ["b"], ["d", "c", "a"], ["a"]]
    data.schedule([[by_key[key] for key in batch] for batch in order])
    batches = predict(data)
    assert keys(batches) == order
    picture = batches[1]["pictures"][1]
    assert picture.source == "d.png"
    assert picture.hq.dtype == torch.uint8 and picture.hq.is_contiguous()
    np.testing.assert_array_equal(picture.hq.permute(1, 2, 0), photos[3][: 40 + ord("d") % 10])
    assert picture.sha256 == hashlib.sha256((folder / "d.png").read_bytes()).hexdigest()
    assert all(batch["failures"] == [] for batch in batches)


def test_plain_batches_without_a_schedule(folder):
    assert keys(predict(HighQualityImages(str(folder), num_workers=0))) == [["a", "b", "c", "d"]]
    assert keys(predict(HighQualityImages(str(folder), batch_size=3, num_workers=0))) == [["a", "b", "c"], ["d"]]


def test_ranks_share_the_batches(folder):
    shares = []
    for rank in range(3):
        data = HighQualityImages(str(folder), batch_size=1, num_workers=0)
        data.find()
        data.trainer = Ranks(rank, 3)
        shares.append(keys(data.predict_dataloader()))
    assert shares == [[["a"], ["d"]], [["b"]], [["c"]]]


def test_nothing_to_do_is_one_empty_batch_and_all_hooks(folder):
    data = HighQualityImages(str(folder), num_workers=2)
    data.find()
    data.schedule([])
    assert predict(data) == [{"pictures": [], "failures": []}]
    data.schedule([data.pictures])
    data.trainer = Ranks(1, 2)
    assert list(data.predict_dataloader()) == [{"pictures": [], "failures": []}]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_cannot_be_decoded_travels_in_the_batch(folder, num_workers):
    whole = (folder / "b.png").read_bytes()
    (folder / "b.png").write_bytes(whole[: len(whole) // 2])
    (folder / "c.png").write_text("text")
    (folder / "notes.txt").write_text("text")
    data = HighQualityImages(str(folder), num_workers=num_workers)
    data.find()
    (folder / "d.png").unlink()
    (batch,) = predict(data)
    assert keys([batch]) == [["a"]]
    assert [failure.source for failure in batch["failures"]] == ["b.png", "c.png", "d.png"]
    reasons = [failure.reason for failure in batch["failures"]]
    assert "truncated" in reasons[0] and "not a readable PNG" in reasons[1] and "No such file" in reasons[2]
    assert [failure.source for failure in data.failures] == ["notes.txt"]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda root: root / "nowhere", "--data.hq_dir: there is no folder"),
        (lambda root: root / "a.png", "--data.hq_dir: .* is not a folder"),
        (lambda root: (root / "sub").mkdir() or root / "sub", "--data.hq_dir: no images in"),
    ],
)
def test_errors_name_the_option(folder, make, text):
    with pytest.raises(ValueError, match=text):
        HighQualityImages(str(make(folder))).find()


@pytest.mark.parametrize("name", ["HighQualityImages", "LowQualityImages"])
def test_class_path_works_on_the_command_line(name, folder):
    option = "hq_dir" if name == "HighQualityImages" else "lq_dir"
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(PictureDataModule, "data")
    config = parser.parse_args([f"--data=ddpm_pairs.data.{name}", f"--data.{option}={folder}", "--data.batch_size=2"])
    data = parser.instantiate_classes(config).data
    assert type(data) is getattr(ddpm_pairs.data, name) and data.batch_size == 2


def test_the_package_has_nothing_else():
    with pytest.raises(AttributeError, match="attribute MediumQualityImages"):
        _ = ddpm_pairs.data.MediumQualityImages


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_memory_is_pinned_for_a_gpu_that_is_used(folder, device):
    data = HighQualityImages(str(folder), num_workers=0)
    data.find()
    data.trainer = Ranks(0, 1, device=device)
    assert data.predict_dataloader().pin_memory is (device == "cuda")
