"""How near synthesized LQ comes while a DDPM trains: the numbers, when they come, and that training does not notice."""

import csv

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

from ddpm_pairs.callbacks import EMA, LastCheckpoint, Realism
from ddpm_pairs.degradations import by_name
from ddpm_pairs.degradations.walk import Sampling, synthesize
from ddpm_pairs.images.find import Picture, find_pictures
from ddpm_pairs.metrics.features import RandomFeatures, extract
from ddpm_pairs.metrics.set_scores import frechet_distance
from ddpm_pairs.metrics.texture import band_power, power_gap_db
from ddpm_pairs.tensors import seed_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


@pytest.fixture(scope="module")
def hq_dir(tmp_path_factory, photos):
    """Five pictures that are large enough and one that is not."""
    folder = tmp_path_factory.mktemp("hq")
    for n, picture in enumerate([*photos, photos[0][::-1], photos[1][:40]]):
        Image.fromarray(picture).save(folder / f"{n}.png")
    return folder


def realism(hq_dir, **options):
    options = {"degradation": "bicubic", "t": 10, "patch": 16, "num_steps": 2, "every_n_steps": 4, **options}
    return Realism(str(hq_dir), features="random", **options)


def pixels(paths):
    return [torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path in paths]


def features(pictures):
    return extract(RandomFeatures(), [picture[None] for picture in pictures])["fid192"]


def test_numbers_are_those_of_the_pictures(module, lq_dir, hq_dir):
    real, _ = find_pictures(lq_dir, "lq")
    callback, ours = realism(hq_dir), module()
    callback.check()
    found = callback.measure(ours, real)
    assert list(found) == ["fid192", "power_gap", "fid192_start", "fid192_floor"]

    hq = callback.hq
    assert len(hq) == 5
    crops = [image[:, 16:80, 32:96] for image in pixels(sorted(hq_dir.iterdir())[:5])]
    assert sorted(int(image.sum()) for image in crops) == sorted(int((one * 255).round().sum()) for one in hq)
    initial = by_name("bicubic").apply(hq, [{}] * 5)
    with torch.no_grad():
        seeds = [{name: seed_of(0, str(n), name) for name in ("noise_seed", "steps_seed")} for n in range(5)]
        lq = synthesize(ours.denoiser(), initial, [{"t": 10} | one for one in seeds], Sampling(num_steps=2))
    made = (lq * 255).round().to(torch.uint8)

    wanted = real_patches(callback, real)
    assert found["fid192"] == pytest.approx(frechet_distance(features(made), features(wanted[0])), rel=1e-4)
    start = (initial * 255).round().to(torch.uint8)
    assert found["fid192_start"] == pytest.approx(frechet_distance(features(start), features(wanted[0])), rel=1e-4)
    assert found["fid192_floor"] == pytest.approx(frechet_distance(features(wanted[1]), features(wanted[0])), rel=1e-4)
    gap = power_gap_db(band_power(made / 255), band_power(wanted[0] / 255))[-1].item()
    assert found["power_gap"] == pytest.approx(gap, abs=1e-4)
    assert callback.measure(ours, real) == found


def real_patches(callback, real):
    """Both sets of real patches as uint8, each a native cut of a picture that the other set has none of."""
    sets = [(part * 255).round().to(torch.uint8) for part in callback._real_patches(real)]
    sources = []
    for patches in sets:
        assert patches.shape == (5, 3, 16, 16)
        found = set()
        for patch in patches:
            (source,) = (one.key for one in real if holds(pixels([one.path])[0], patch))
            found.add(source)
        sources.append(found)
    assert not sources[0] & sources[1]
    return sets


def holds(picture, patch):
    windows = picture.unfold(1, 16, 1).unfold(2, 16, 1)  # (3, rows, columns, 16, 16)
    return bool((windows == patch[:, None, None]).all(dim=(0, 3, 4)).any())


def test_an_unreadable_or_small_picture_is_passed_over(hq_dir, lq_dir, tmp_path):
    real, _ = find_pictures(lq_dir, "lq")
    (tmp_path / "torn.png").write_bytes(b"no picture")
    Image.new("RGB", (12, 40)).save(tmp_path / "small.png")
    others = [Picture(name, tmp_path / f"{name}.png", f"{name}.png") for name in ("torn", "small")]
    callback = realism(hq_dir)
    for ours, theirs in zip(callback._real_patches([*real, *others]), callback._real_patches(real), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(ValueError, match="Realism: got 0 LQ images of 16 px or more"):
        callback._real_patches(others)


def test_is_logged_when_due_with_the_weights_of_validation(trainer, module, pictures, lq_dir, hq_dir, tmp_path):
    logger = CSVLogger(tmp_path, name="logs", version="")
    callback, model = realism(hq_dir, every_n_steps=7), module()
    # the average has not been updated yet, so what is measured is the beginning
    reference = realism(hq_dir, every_n_steps=7)
    reference.check()
    expected = reference.measure(model, find_pictures(lq_dir, "lq")[0])
    trainer(12, [EMA(every_n_steps=100), callback], logger=logger).fit(model, pictures())
    with (tmp_path / "logs" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("realism/fid192")]
    assert [int(row["step"]) for row in rows] == [7]
    for name in ("fid192", "power_gap", "fid192_start", "fid192_floor"):
        assert float(rows[0][f"realism/{name}"]) == pytest.approx(expected[name], rel=1e-3)
    assert callback.state_dict() == {"last_step": 8}


def test_training_does_not_notice_it_and_nothing_of_it_is_saved(trainer, module, pictures, tmp_path, hq_dir):
    saved = []
    for extra in ([], [realism(hq_dir, every_n_steps=1)]):
        torch.manual_seed(5)
        trainer(9, [*extra, LastCheckpoint(str(tmp_path), 100)]).fit(module(dropout=True), pictures())
        saved.append(torch.load(tmp_path / "last.ckpt", weights_only=True))
    assert all(torch.equal(saved[0]["state_dict"][name], value) for name, value in saved[1]["state_dict"].items())
    assert saved[1]["callbacks"]["Realism"] == {"last_step": 8}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"patch": 30}, "Realism.hq_dir: got 0 images of 120 px or more per side"),
        ({"t": 0}, "Realism.t: got 0; expected 1 or more"),
        ({"degradation": "sharp"}, "sharp"),
    ],
)
def test_wrong_arguments(hq_dir, options, said):
    with pytest.raises(ValueError, match=said):
        realism(hq_dir, **options)


def test_a_t_beyond_training_is_refused(trainer, module, pictures, hq_dir):
    with pytest.raises(ValueError, match="Realism.t: got 30; expected 20 or less, the t_max of the DDPM"):
        trainer(4, [realism(hq_dir, t=30)]).fit(module(), pictures())


def test_missing_weights_end_in_a_line(hq_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_PAIRS_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", _no_network)
    with pytest.raises(ValueError, match="Inception"):
        Realism(str(hq_dir), patch=16, degradation="bicubic").check()


def _no_network(*_, **__):
    raise OSError("no network")
