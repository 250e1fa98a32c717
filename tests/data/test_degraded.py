import pickle
from itertools import islice

import lightning as L
import numpy as np
import pytest
import torch
from listener import Listener
from PIL import Image
from tiny_ddpm import tiny_denoiser

from ddpm_pairs.data import DegradedImages, HighQualityImages
from ddpm_pairs.degradations import Bicubic, HQPreparation, OnHQGrid, RealESRGAN, Walk, by_name
from ddpm_pairs.diffusion.runtime.runtime import Runtime
from ddpm_pairs.errors import UserError
from ddpm_pairs.synthesis import PairGenerator, PairWriter

SILENT = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "use_distributed_sampler": False,
}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def hq_folder(tmp_path, photos):
    """Four pictures, two in a subfolder."""
    root = tmp_path / "hq"
    (root / "sub").mkdir(parents=True)
    for number, photo in enumerate(photos):
        Image.fromarray(photo).save(root / ("" if number < 2 else "sub") / f"{number}.png")
    return root


def data_of(root, degradation=None, **options):
    options = {"crop_size": 64, "batch_size": 4, "num_workers": 0, "val_dir": str(root)} | options
    return DegradedImages(str(root), degradation or RealESRGAN(4), **options)


def fit(data, steps, ckpt_path=None, tmp_path=None, **trainer):
    model = Listener()
    trainer = L.Trainer(max_steps=steps, default_root_dir=tmp_path, limit_val_batches=0, **SILENT | trainer)
    trainer.fit(model, data, ckpt_path=ckpt_path)
    return trainer, model.seen


def samples(batches):
    """Samples in order: (key, hq, lq)."""
    return [sample for batch in batches for sample in zip(batch["key"], batch["hq"], batch["lq"], strict=True)]


def test_batches_of_a_fit(hq_folder, tmp_path, photos):
    _, seen = fit(data_of(hq_folder, flip=False), 2, tmp_path=tmp_path)
    windows = [np.lib.stride_tricks.sliding_window_view(photo, (64, 64, 3)).reshape(-1, 64, 64, 3) for photo in photos]
    for batch in seen:
        assert set(batch) == {"hq", "lq", "key"}
        assert batch["hq"].shape == (4, 3, 64, 64) and batch["lq"].shape == (4, 3, 16, 16)
        for key, hq, lq in samples([batch]):
            pixels = (hq.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
            assert (windows[int(key.split("~")[0][-1])] == pixels).all((1, 2, 3)).any()
            assert np.array_equal(hq.permute(1, 2, 0).numpy(), pixels.astype(np.float32) / np.float32(255))
            assert torch.equal((lq * 255).round() / 255, lq) and lq.min() >= 0 and lq.max() <= 1
    assert sorted(seen[0]["key"]) == ["0", "1", "sub/2", "sub/3"]
    assert sorted(seen[1]["key"]) == ["0~1", "1~1", "sub/2~1", "sub/3~1"]


@pytest.mark.parametrize(
    "degradation",
    [by_name(name) for name in ("bicubic", "classical", "bsrgan", "real_esrgan")]
    + [OnHQGrid("real_esrgan"), Walk("bicubic", tiny_denoiser(), (1, 9), runtime=Runtime(4, 1, "fp32"))],
    ids=lambda model: model.name,
)
def test_lq_is_what_predict_makes_of_the_same_hq(hq_folder, tmp_path, degradation):
    """The crops of two epochs, written as pictures under their keys and degraded by `predict` with t_max 0."""
    _, seen = fit(data_of(hq_folder, degradation, seed=7), 2, tmp_path=tmp_path)
    for key, hq, _ in samples(seen):
        path = tmp_path / "crops" / f"{key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((hq.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)).save(path)
    generator = PairGenerator(degradation, t_max=0, slots=4, threads=1, seed=7)
    L.Trainer(callbacks=[PairWriter(str(tmp_path / "pairs"))], **SILENT).predict(
        generator, HighQualityImages(str(tmp_path / "crops"), num_workers=0), return_predictions=False
    )
    for key, _, lq in samples(seen):
        written = np.asarray(Image.open(tmp_path / "pairs" / "lq" / f"{key}.png"))
        assert np.array_equal((lq.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8), written), key
    assert len(samples(seen)) == 8


def test_prepared_hq_is_what_predict_prepares(hq_folder, tmp_path):
    """A crop as large as the picture, so that both see the same."""
    for path in hq_folder.rglob("*.png"):
        Image.open(path).crop((0, 0, 96, 96)).save(path)
    data = data_of(
        hq_folder, Bicubic(4), crop_size=96, flip=False, hq_preparation=HQPreparation(sharpen=True, gray=0.5), seed=3
    )
    _, seen = fit(data, 1, tmp_path=tmp_path)
    generator = PairGenerator("bicubic", t_max=0, slots=4, threads=1, seed=3, sharpen_hq=True, gray_hq=0.5)
    L.Trainer(callbacks=[PairWriter(str(tmp_path / "pairs"))], **SILENT).predict(
        generator, HighQualityImages(str(hq_folder), num_workers=0), return_predictions=False
    )
    gray = set()
    for key, hq, _ in samples(seen):
        written = np.asarray(Image.open(tmp_path / "pairs" / "hq" / f"{key}.png")).astype(int)
        assert np.abs(hq.permute(1, 2, 0).numpy() * 255 - written).max() < 1e-4
        gray.add(bool((written[..., 0] == written[..., 2]).all()))
    assert gray == {True, False}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumed_fit_sees_what_an_unbroken_one_would(hq_folder, tmp_path, num_workers):
    def data():
        return data_of(hq_folder, Bicubic(4), batch_size=3, num_workers=num_workers, seed=4)

    options = {"tmp_path": tmp_path, "accumulate_grad_batches": 2}
    _, unbroken = fit(data(), 3, **options)
    trainer, first = fit(data(), 1, **options)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    _, rest = fit(data(), 3, tmp_path / "one.ckpt", **options)
    found, expected = samples(first + rest), samples(unbroken)
    assert [one[0] for one in found] == [one[0] for one in expected] and len(expected) == 18
    assert all(torch.equal(a[n], b[n]) for a, b in zip(found, expected, strict=True) for n in (1, 2))


def test_visits_differ_and_the_seed_counts(hq_folder):
    def drawn(seed):
        data = data_of(hq_folder, seed=seed)
        data.find()
        return [batch["parameters"] for batch in islice(data.train_dataloader(), 3)]

    first = drawn(0)
    assert first == drawn(0) and first != drawn(1)
    assert len({str(one) for batch in first for one in batch}) == 12


def test_validation_is_the_same_for_every_seed_and_batch_size(hq_folder):
    def batches(**options):
        data = data_of(hq_folder, **options)
        data.find()
        return [
            one
            for batch in data.val_dataloader()
            for one in zip(batch["key"], batch["hq"], batch["parameters"], strict=True)
        ]

    first = batches()
    assert [key for key, *_ in first] == ["0", "1", "sub/2", "sub/3"]
    for again in (batches(seed=5), batches(batch_size=3), batches(flip=False)):
        assert all(a[0] == b[0] and torch.equal(a[1], b[1]) and a[2] == b[2] for a, b in zip(again, first, strict=True))


def test_validation_batches_of_a_run(hq_folder):
    model = Listener()
    L.Trainer(**SILENT).validate(model, data_of(hq_folder, batch_size=3), verbose=False)
    assert [batch["key"] for batch in model.seen_val] == [["0", "1", "sub/2"], ["sub/3"]]
    assert model.seen_val[0]["lq"].shape == (3, 3, 16, 16) and set(model.seen_val[0]) == {"hq", "lq", "key"}


def test_small_pictures_are_padded_by_reflection(tmp_path, photos):
    Image.fromarray(photos[0][:40, :64]).save(tmp_path / "small.png")
    data = data_of(tmp_path, Bicubic(4), flip=False, batch_size=1)
    data.find()
    (batch,) = islice(data.train_dataloader(), 1)
    expected = np.pad(photos[0][:40, :64], ((12, 12), (0, 0), (0, 0)), mode="reflect")
    assert np.array_equal(batch["hq"][0].permute(1, 2, 0).numpy(), expected)


def test_crops_larger_than_all_pictures_are_refused(tmp_path, photos):
    for number, (height, width) in enumerate([(40, 63), (62, 20)]):
        Image.fromarray(photos[0][:height, :width]).save(tmp_path / f"{number}.png")
    with pytest.raises(UserError, match="^--data.crop_size: got 64; expected 63 or less, as the longest side of all"):
        data_of(tmp_path, Bicubic(4)).find()


def test_a_broken_picture_is_replaced_and_reported(hq_folder, tmp_path):
    data = (hq_folder / "1.png").read_bytes()
    (hq_folder / "1.png").write_bytes(data[: len(data) // 2])
    module = data_of(hq_folder, Bicubic(4))
    with pytest.warns(UserWarning, match=r"1.png is left out"):
        _, seen = fit(module, 2, tmp_path=tmp_path)
    assert [failure.source for failure in module.failures] == ["1.png"]
    assert all(len(batch["key"]) == 4 and "1" not in batch["key"] for batch in seen)


def test_it_can_be_sent_to_a_process(hq_folder):
    data = data_of(hq_folder, hq_preparation=HQPreparation(gray=0.5))
    data.find()
    loader = data.train_dataloader()
    dataset, collate = pickle.loads(pickle.dumps((loader.dataset, loader.collate_fn)))
    again, here = collate([dataset[0], dataset[9]]), loader.collate_fn([loader.dataset[0], loader.dataset[9]])
    assert again["parameters"] == here["parameters"] and again["preparation"] == here["preparation"]


class Scaleless:
    def draw(self, generator):
        return {}

    def apply(self, hq, parameters):
        return hq


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"crop_size": 66}, "--data.crop_size: got 66; expected a multiple of 4, as the degradation requires"),
        ({"degradation": Scaleless()}, "degradation Scaleless has no `name`"),
        ({"batch_size": 0}, "--data.batch_size: got 0"),
        ({"val_fraction": -0.1}, "--data.val_fraction: got -0.1"),
    ],
)
def test_errors_are_one_line(hq_folder, options, text):
    with pytest.raises(ValueError) as caught:
        data_of(hq_folder, **options)
    assert str(caught.value).startswith(text) and "\n" not in str(caught.value)


def test_the_error_for_a_missing_folder_names_its_option():
    with pytest.raises(ValueError, match="--data.hq_dir: there is no folder 'nowhere'"):
        DegradedImages("nowhere", Bicubic(4)).find()
