"""Face pairs with natural images: what a batch contains, and on what it depends."""

from collections import Counter

import lightning as L
import numpy as np
import pytest
import torch
from distributions import assert_share, assert_uniform
from PIL import Image
from pretended_gpu import pretended_gpu
from tiny_gan import stirred

from ddpm_pairs.data.transforms import ZoomedCrop
from ddpm_pairs.degradations.ops import jpeg
from ddpm_pairs.errors import UserError
from ddpm_pairs.faces import FacePairs
from ddpm_pairs.faces.draws import EXTRA, REPLACING, SHARED, draw_training, draw_validation, finish
from ddpm_pairs.images.pixels import resize_bicubic
from ddpm_pairs.restoration import GPEN
from ddpm_pairs.run import Run
from ddpm_pairs.tensors import generator_for

IMAGES = ("face_hq", "face_lq", "face_syn_lq", "natural_hq", "natural_syn_lq")
S = 32


def save(folder, images):
    folder.mkdir(parents=True)
    for name, pixels in images.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return str(folder)


@pytest.fixture
def folders(tmp_path, photos):
    """Ten face pairs of 64 px, whose LQ is darker by 20 levels, and seven natural images."""
    faces = {f"f{n}": photos[n % 4][n : n + 64, 3 * n : 3 * n + 64].clip(20) for n in range(10)}
    save(tmp_path / "faces" / "hq", faces)
    save(tmp_path / "faces" / "lq", {key: face - np.uint8(20) for key, face in faces.items()})
    natural = save(tmp_path / "natural", {f"n{n}": photos[n % 4][: 70 + n, 5 * n : 5 * n + 90] for n in range(7)})
    return {"faces_dir": str(tmp_path / "faces"), "hq_dir": natural}


def built(folders, **options):
    options = {"crop_size": S, "batch_size": 4, "num_workers": 0, "val_fraction": 0.2} | options
    data = FacePairs(**options | folders)
    data.setup("fit")
    return data


def batch_of(data, samples):
    return data.on_after_batch_transfer(data.on_before_batch_transfer(data.collate(True)(list(samples)), 0), 0)


def test_batches_contain_five_images_in_steps_of_8_bits(folders):
    data = built(folders)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        batch = data.on_after_batch_transfer(data.on_before_batch_transfer(next(iter(loader)), 0), 0)
        assert set(batch) == {*IMAGES, "key"}
        for name in IMAGES:
            images = batch[name]
            assert images.shape == (len(batch["key"]), 3, S, S) and images.dtype == torch.float32
            assert torch.equal((images * 255).round() / 255, images) and images.min() >= 0 and images.max() <= 1
    assert data.epoch_samples == 10 - len(data.validation_samples()) and data.batch_size == 4


def test_defaults_are_those_of_the_release(folders):
    data = FacePairs(**folders)
    assert (data.crop_size, data.batch_size, data.zoom, data.lq_shares) == (256, 12, (0.66, 1.0), (0.4, 0.25, 0.35))


def test_the_synthetic_lq_of_a_row_share_parameters_and_noise(folders):
    data = built(folders, zoom=(1.0, 1.0), color=False)
    samples = [data.training_samples()[i] for i in range(8)]
    batch = batch_of(data, samples)
    shared = [sample.draws["shared"] for sample in samples]
    assert torch.equal(batch["face_syn_lq"], SHARED.apply(batch["face_hq"], shared))
    assert torch.equal(batch["natural_syn_lq"], SHARED.apply(batch["natural_hq"], shared))
    same = [sample._replace(hq=sample.natural, lq=sample.natural) for sample in samples]
    batch = batch_of(data, same)
    assert torch.equal(batch["face_syn_lq"], batch["natural_syn_lq"])
    assert not torch.equal(batch["face_syn_lq"], batch["face_hq"])
    # flat images of two levels: what is added is the same field, which JPEG and clipping do not change here
    for sample in samples:
        operations = [one for one in sample.draws["shared"]["operations"] if one["operation"] != "jpeg"]
        sample.draws["shared"] = {"operations": operations}
        sample.hq.fill_(100), sample.natural.fill_(150)
    batch = batch_of(data, samples)
    fields = batch["face_syn_lq"] - 100 / 255, batch["natural_syn_lq"] - 150 / 255
    assert (fields[0] - fields[1]).abs().max() < 1.01 / 255 and fields[0].std() > 1 / 255


def test_lq_is_replaced_degraded_further_or_real(folders):
    data = built(folders, color=False)
    samples = [data.training_samples()[i] for i in range(24)]
    batch = batch_of(data, samples)
    changes = Counter()
    real = finish(
        *zip(*[(s.hq, s.lq) for s in samples], strict=True),
        batch["natural_hq"] * 255,
        [s.draws | {"lq": None} for s in samples],
        S,
    )
    assert torch.equal(real["face_hq"], batch["face_hq"])
    for row, sample in enumerate(samples):
        lq, change = sample.draws["lq"], None if sample.draws["lq"] is None else sample.draws["lq"]["change"]
        changes[change] += 1
        chain, source = {"replaced": (REPLACING, batch["face_hq"]), "extra": (EXTRA, real["face_lq"])}.get(
            change, (None, None)
        )
        expected = real["face_lq"][row] if chain is None else chain.apply(source[row : row + 1], [lq["parameters"]])[0]
        assert torch.equal(batch["face_lq"][row], expected)
    assert set(changes) == {"replaced", "extra", None}


def test_shares_of_lq_and_of_colors():
    count = 3000
    drawn = [draw_training(generator_for("shares", i), (0.4, 0.25, 0.35), True) for i in range(count)]
    changes = Counter(None if one["lq"] is None else one["lq"]["change"] for one in drawn)
    for change, share in {"replaced": 0.4, "extra": 0.25, None: 0.35}.items():
        assert_share(changes[change], share, count)
    factors = {change: [] for change in changes}
    for one in drawn:
        for step in (one["lq"] or {"parameters": {"operations": []}})["parameters"]["operations"]:
            if step["operation"] == "down":
                factors[one["lq"]["change"]].append(1 / step["resize"]["factor"])
    assert_uniform(factors["replaced"], 3 - 1e-9, 6 + 1e-9)
    assert_uniform(factors["extra"], 1 - 1e-9, 2 + 1e-9)
    grays = Counter(one["face_gray"] for one in drawn)
    for gray in (0.8, 0.9, 1.0):
        assert_share(grays[gray], 0.05 / 3, count)
    assert_share(sum(one["natural_gray"] == 1 for one in drawn), 0.05, count)
    gains = [one["natural_gains"] for one in drawn if one["natural_gains"] != [1.0] * 3]
    assert_share(len(gains), 0.4, count)
    assert_uniform([gain for three in gains for gain in three], 0.9, 1.1)
    plain = [draw_training(generator_for("shares", i), (0, 0, 1), False) for i in range(50)]
    assert all(one == draw_validation(generator_for("shares", i)) for i, one in enumerate(plain))


def test_colors_change_both_sides_of_a_pair_and_only_the_rows_that_were_drawn():
    generator = torch.Generator().manual_seed(0)
    hq, lq, natural = (torch.randint(256, (3, 3, 8, 8), generator=generator).byte() for _ in range(3))
    draws = [draw_validation(generator) | {"face_gray": 0.0}, draw_validation(generator) | {"face_gray": 0.8},
             draw_validation(generator) | {"natural_gray": 1.0, "natural_gains": [0.9, 1.0, 1.1]}]  # fmt: skip
    found = finish(list(hq), list(lq), natural, draws, 8)
    luma = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    for name, images in (("face_hq", hq), ("face_lq", lq)):
        assert torch.equal((found[name][[0, 2]] * 255).round().byte(), images[[0, 2]])
        gray = torch.einsum("c,chw->hw", luma, images[1].double())
        expected = 0.2 * images[1].double() + 0.8 * gray
        assert (found[name][1].double() * 255 - expected).abs().max() < 0.51
    assert torch.equal((found["natural_hq"][:2] * 255).round().byte(), natural[:2])
    gains = torch.tensor([0.9, 1.0, 1.1], dtype=torch.float64).view(3, 1, 1)
    scaled = (natural[2].double() * gains).round().clamp(0, 255)
    expected = torch.einsum("c,chw->hw", luma, scaled)
    assert (found["natural_hq"][2].double() * 255 - expected).abs().max() < 0.52


@pytest.mark.filterwarnings("ignore:.*CUDA is not available.*:UserWarning")
def test_the_host_never_waits_for_the_gpu():
    shares = ((1, 0, 0), (0, 1, 0))
    draws = [draw_training(generator_for("gpu", i), shares[i], True) for i in range(2)]
    with pretended_gpu():
        hq, lq = ([torch.empty(3, side, side, dtype=torch.uint8, device="cuda")] * 2 for side in (48, 24))
        found = finish(hq, lq, torch.empty(2, 3, 32, 32, dtype=torch.uint8, device="cuda"), draws, 32)
    jpeg._matrices.cache_clear()  # of pretended tables
    assert all(found[name].shape == (2, 3, 32, 32) and found[name].device.type == "cuda" for name in IMAGES)


def test_samples_depend_only_on_seed_and_number(folders):
    first, second = built(folders).training_samples(), built(folders).training_samples()
    later = {i: second[i] for i in (37, 5, 12)}  # in any order, as on any rank
    for i in range(38):
        one = first[i]
        if i in later:
            other = later[i]
            assert one.draws == other.draws and one.key == other.key
            assert all(torch.equal(getattr(one, side), getattr(other, side)) for side in ("hq", "lq", "natural"))
    assert len({str(first[i].draws) for i in range(38)}) == 38  # also those of one face
    other = built(folders, seed=1).training_samples()
    assert any(other[i].draws != later[i].draws for i in later)


def test_ranks_and_a_resumed_fit_share_one_stream(folders):
    class Trainer:
        accumulate_grad_batches = 1

        def __init__(self, step, rank):
            self.global_step, self.global_rank, self.world_size = step, rank, 2

    whole = built(folders).training_samples()
    for step, rank in ((0, 0), (3, 1)):
        data = built(folders)
        data.trainer = Trainer(step, rank)
        data.trainer.strategy = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False).strategy
        batch = next(iter(data.train_dataloader()))
        numbers = [2 * 4 * step + rank + 2 * n for n in range(4)]
        assert batch["draws"] == [whole[i].draws for i in numbers]
        assert all(torch.equal(hq, whole[i].hq) for hq, i in zip(batch["hq"], numbers, strict=True))


def test_validation_is_the_center_of_the_real_pair(folders):
    data, again = built(folders), built(folders, seed=5)
    samples = [data.validation_samples()[j] for j in range(len(data.validation_samples()))]
    assert [one.draws for one in samples] == [again.validation_samples()[j].draws for j in range(len(samples))]
    batch = batch_of(data, samples)
    for row, key in enumerate(batch["key"]):
        for side in ("hq", "lq"):
            pixels = np.array(Image.open(f"{folders['faces_dir']}/{side}/{key}.png"))[16:48, 16:48]
            assert (batch[f"face_{side}"][row] * 255).round().byte().permute(
                1, 2, 0
            ).numpy().tolist() == pixels.tolist()
    trained = {data.training_samples()[i].key for i in range(40)}
    assert trained.isdisjoint(batch["key"])


def ramps(side, scale):
    """A pair of (side, side) that increases to the right in red and downward in green, without rounding to bytes."""
    place = (torch.arange(side) + 0.5) / side
    small = (torch.arange(side // scale) + 0.5) / (side // scale)
    return [
        torch.stack([p.expand(len(p), -1), p.expand(len(p), -1).T, torch.full((len(p), len(p)), 0.5)])
        for p in (place, small)
    ]


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_both_sides_of_a_pair_are_cut_alike_and_brought_to_one_grid(scale):
    """Drift of the LQ content is below a tenth of a pixel."""
    side, size = 256, 128
    hq, lq = ((part * 255).permute(1, 2, 0).numpy() for part in ramps(side, scale))
    crop = ZoomedCrop(size, scale, (0.66, 1.0), (0.5, 0.35))
    sides, flips = set(), Counter()
    for seed in range(12):
        big, small = (torch.from_numpy(part.copy()).permute(2, 0, 1) for part in crop(hq, lq, seed))
        sides.add(big.shape[-1])
        assert big.shape[1:] == (scale * small.shape[1],) * 2 and size <= big.shape[1] <= 194 + scale
        assert torch.equal(big, torch.from_numpy(crop(hq, lq, seed)[0].copy()).permute(2, 0, 1))
        both = [resize_bicubic(one[None].float(), (size, size))[0] / 255 * side for one in (big, small)]
        inner = slice(16, -16)
        drift = (both[1] - both[0])[:2, inner, inner]
        assert drift.abs().max() < 0.1
        flips["across"] += bool(both[0][0, 0, 0] > both[0][0, 0, -1])
        flips["down"] += bool(both[0][1, 0, 0] > both[0][1, -1, 0])
    assert len(sides) > 5 and 0 < flips["across"] < 12 and 0 < flips["down"] < 12


def test_a_zoom_of_1_and_a_face_of_the_crop_size_are_not_resized():
    generator = np.random.default_rng(0)
    hq, lq = generator.integers(256, size=(64, 64, 3)), generator.integers(256, size=(32, 32, 3))
    for crop in (ZoomedCrop(64, 2, (0.5, 1.0), (0.0, 0.0)), ZoomedCrop(64, 2, (1.0, 1.0), (0.0, 0.0))):
        assert all(np.array_equal(one, other) for one, other in zip(crop(hq, lq, 3), (hq, lq), strict=True))
    assert ZoomedCrop(32, 2, (1.0, 1.0), (0.0, 0.0))(hq, lq, 3)[0].shape == (32, 32, 3)


def test_lq_of_a_quarter_is_enlarged_bicubically(folders, tmp_path):
    small = {}
    for n in range(10):
        image = Image.open(f"{folders['faces_dir']}/hq/f{n}.png")
        small[f"f{n}"] = np.array(image.resize((16, 16), Image.Resampling.BICUBIC))
    (tmp_path / "x4").mkdir()
    (tmp_path / "x4" / "hq").symlink_to(tmp_path / "faces" / "hq")
    save(tmp_path / "x4" / "lq", small)
    data = built(folders | {"faces_dir": str(tmp_path / "x4")}, crop_size=64)
    batch = batch_of(data, [data.validation_samples()[0]])
    expected = Image.fromarray(small[batch["key"][0]]).resize((64, 64), Image.Resampling.BICUBIC)  # which rounds twice
    found = (batch["face_lq"][0] * 255).round().permute(1, 2, 0).numpy()
    assert np.abs(found - np.array(expected)).max() <= 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"zoom": (0.5, 1.5)}, "--data.zoom: got .0.5, 1.5.; expected .low, high."),
        ({"zoom": (0.0, 1.0)}, "--data.zoom"),
        ({"lq_shares": (0.5, 0.4, 0.2)}, "--data.lq_shares: got .*; expected three shares with a sum of 1"),
        ({"lq_shares": (1.2, -0.2, 0.0)}, "--data.lq_shares"),
        (
            {"crop_size": 65},
            "--data.crop_size: got 65; expected 64 or less, as .* of all images in --data.faces_dir is 64 px",
        ),
        ({"faces_dir": "nowhere"}, "--data.faces_dir: 'nowhere' does not exist; give a pairs folder"),
        ({"hq_dir": "nowhere"}, "--data.hq_dir: there is no folder 'nowhere'"),
        ({"restorer": "gpen.pth"}, "--data.restorer: faces are restored by `lightning fit`; in Python"),
    ],
)
def test_mistakes_end_in_one_line(folders, change, words):
    with pytest.raises(UserError, match=words) as error:
        built(folders | change)
    assert "\n" not in str(error.value)


def test_lq_faces_alone_need_a_restorer(folders, tmp_path):
    with pytest.raises(UserError, match="--data.faces_dir: .* is not a folder of pairs; .* with --data.restorer"):
        built(folders | {"faces_dir": str(tmp_path / "faces" / "lq")})


def test_lq_faces_alone_are_restored_before_a_fit(folders, tmp_path):
    torch.manual_seed(0)
    torch.save(stirred(GPEN(32, 1, 1 / 64)).state_dict(), tmp_path / "gpen.pth")
    (tmp_path / "faces" / "lq" / "broken.png").write_text("no image")
    trainer = L.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    options = {"faces_dir": str(tmp_path / "faces" / "lq"), "restorer": str(tmp_path / "gpen.pth")}

    def checked(**changes):
        data = FacePairs(**folders | options | {"crop_size": S, "num_workers": 0} | changes)
        data.check_run(Run("fit", trainer, L.LightningModule(), data, tmp_path / "run", None, {}))
        return data

    with pytest.raises(UserError, match="--data.hq_dir"):
        checked(hq_dir="nowhere")
    assert not (tmp_path / "run").exists()
    data = checked()
    assert len(list((tmp_path / "run" / "faces" / "hq").glob("*.png"))) == 10
    assert [one.source for one in data.failures] == ["broken.png"]
    batch = batch_of(data, [data.training_samples()[i] for i in range(3)])
    assert batch["face_hq"].shape == (3, 3, S, S)
    data.setup("fit")  # as Lightning calls it again


class Listener(L.LightningModule):
    """Keeps what reaches its steps."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.zeros(())), {"train": [], "val": []}

    def training_step(self, batch, batch_idx):
        self.seen["train"].append(batch)
        return (self.weight - batch["face_lq"].mean()) ** 2

    def validation_step(self, batch, batch_idx):
        self.seen["val"].append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_a_fit_with_loader_processes_gets_the_batches(folders):
    module, data = Listener(), built(folders, num_workers=1)
    options = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = L.Trainer(accelerator="cpu", max_steps=2, val_check_interval=2, check_val_every_n_epoch=None,
                        num_sanity_val_steps=0, use_distributed_sampler=False, **options)  # fmt: skip
    trainer.fit(module, data)
    alone = built(folders)
    samples = alone.training_samples()
    for step, batch in enumerate(module.seen["train"]):
        expected = batch_of(alone, [samples[4 * step + n] for n in range(4)])
        assert set(batch) == set(expected) and batch["key"] == expected["key"]
        assert all(torch.equal(batch[name], expected[name]) for name in IMAGES)
    assert sum(len(batch["key"]) for batch in module.seen["val"]) == len(data.validation_samples())
