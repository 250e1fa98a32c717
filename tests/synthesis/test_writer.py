import json
from hashlib import sha256

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageCms
from tiny_ddpm import save_ckpt, tiny_denoiser
from torch import nn

from ddpm_pairs.data import HighQualityImages
from ddpm_pairs.diffusion import Denoiser, Schedule, load_denoiser
from ddpm_pairs.pairset.folder import PairsFolder
from ddpm_pairs.synthesis import PairGenerator, PairWriter

FIELDS = {
    *("key", "hq", "lq", "source", "source_sha256", "seed", "t", "logsnr", "sampler", "num_steps", "degradation"),
    *("scale", "hq_size", "lq_size", "psnr", "psnr_initial", "accepted", "lq_sha256"),
}
KEYS = ["B", "a", "b", "d", "e", "sub/c", "é"]  # by code point


def records_of(root):
    return [json.loads(line) for line in (root / "manifest.jsonl").read_text().splitlines()]


def trained(**options):
    """A fast generator with the tiny DDPM."""
    quick = {"degradation": "bicubic", "t_max": 40, "slots": 4, "threads": 1, "num_steps": 3, "precision": "fp32"}
    generator = PairGenerator(**quick | options)
    generator.add_walk(tiny_denoiser())
    return generator


def test_folder_holds_exactly_what_the_contract_names(hq_folder, tmp_path, predict, pixels):
    checkpoint = save_ckpt(tiny_denoiser(), tmp_path / "tiny.ckpt")
    out = tmp_path / "pairs"
    (hq_folder / "notes.txt").write_text("not a picture")
    summary = predict(trained(degradation="real_esrgan", t_min=1), hq_folder, out, checkpoint)
    expected = {f"{kind}/{key}.png" for kind in ("hq", "lq") for key in KEYS}
    expected |= {"manifest.jsonl", "meta_info.txt", "run.yaml", "failures.jsonl"}
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == expected
    assert (summary["made"], summary["folder"].pairs, len(summary["failures"])) == (7, 7, 1)
    assert summary["occupancy"] == 7 / 16  # five images of one canvas size and two of others, in batches of four

    records = records_of(out)
    assert [record["key"] for record in records] == KEYS
    for record in records:
        assert record.keys() >= FIELDS
        source = hq_folder / record["source"]
        assert record["source"] == f"{record['key']}.png"
        assert (record["hq"], record["lq"]) == (f"hq/{record['key']}.png", f"lq/{record['key']}.png")
        assert record["source_sha256"] == sha256(source.read_bytes()).hexdigest()
        assert record["lq_sha256"] == sha256((out / record["lq"]).read_bytes()).hexdigest()
        hq, lq = pixels(out / record["hq"]), pixels(out / record["lq"])
        assert record["hq_size"] == [hq.shape[1], hq.shape[0]] == [4 * side for side in record["lq_size"]]
        assert record["lq_size"] == [lq.shape[1], lq.shape[0]]
        np.testing.assert_array_equal(hq, pixels(source)[: hq.shape[0], : hq.shape[1]])
        assert 1 <= record["t"] <= 40 and record["scale"] == 4
        assert record["accepted"] is (record["psnr_initial"] - record["psnr"] <= 2)
        assert record["logsnr"] == pytest.approx(Schedule("cosine", 1000).log_snr[record["t"] - 1].item(), abs=1e-5)
        enlarged = np.asarray(Image.fromarray(lq).resize(hq.shape[1::-1], Image.Resampling.BICUBIC)).astype(float)
        error = ((enlarged - hq) ** 2).mean()
        assert record["psnr"] == pytest.approx(10 * np.log10(255**2 / error), abs=0.01)
        entry, start = record["degradation"], record["degradation"]["parameters"]["start"]
        assert (entry["name"], entry["parameters"]["t"], start["name"]) == ("walk", record["t"], "real_esrgan")
        assert 0 <= entry["parameters"]["noise_seed"] < 2**53 and len(start["parameters"]["stages"]) == 2
    assert (out / "meta_info.txt").read_text() == "".join(f"hq/{key}.png, lq/{key}.png\n" for key in KEYS)
    failures = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert [failure["source"] for failure in failures] == ["notes.txt"] and set(failures[0]) == {"source", "reason"}

    run = yaml.safe_load((out / "run.yaml").read_text())
    assert run["settings"]["checkpoint_sha256"] == sha256((tmp_path / "tiny.ckpt").read_bytes()).hexdigest()
    assert (run["machine"]["precision"], run["machine"]["slots"], run["machine"]["threads"]) == ("fp32", 4, 1)
    assert run["versions"]["torch"] == torch.__version__.split("+")[0]


def test_loader_options_change_no_byte(hq_folder, tmp_path, predict, content):
    predict(trained(), hq_folder, tmp_path / "one")
    predict(trained(), hq_folder, tmp_path / "two", batch_size=3, num_workers=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert len(content(tmp_path / "one")) == 17


def test_part_of_the_pictures_gives_the_same_pairs(hq_folder, tmp_path, predict, content):
    """Neighbors in the folder do not matter either."""
    predict(trained(), hq_folder, tmp_path / "all")
    for key in ("B", "a", "e"):
        (hq_folder / f"{key}.png").unlink()
    predict(trained(), hq_folder, tmp_path / "some")
    everything, some = content(tmp_path / "all"), content(tmp_path / "some")
    for key in ("b", "d", "sub/c", "é"):
        assert some[f"lq/{key}.png"] == everything[f"lq/{key}.png"]
    assert set(records_line.decode() for records_line in some["manifest.jsonl"].splitlines()) < {
        line.decode() for line in everything["manifest.jsonl"].splitlines()
    }


class StopAfter(L.Callback):
    """Stops the run with Ctrl-C after a given number of published batches."""

    def __init__(self, batches):
        self.batches = batches

    def on_predict_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if batch_idx == self.batches:
            raise KeyboardInterrupt


def test_interrupted_run_goes_on_to_the_same_folder(hq_folder, tmp_path, predict, content):
    predict(trained(), hq_folder, tmp_path / "unbroken")
    out = tmp_path / "pairs"
    trainer = L.Trainer(
        accelerator="cpu", logger=False, callbacks=[PairWriter(str(out)), StopAfter(1)], enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    with pytest.raises(SystemExit):
        trainer.predict(trained(), HighQualityImages(str(hq_folder), num_workers=0), return_predictions=False)
    assert not (out / "meta_info.txt").exists() and (out / "manifest.rank0.jsonl").exists()
    summary = predict(trained(), hq_folder, out)
    assert 0 < summary["made"] < 7
    assert content(out) == content(tmp_path / "unbroken")


def test_finished_folder_is_left_alone(hq_folder, tmp_path, predict, content):
    out = tmp_path / "pairs"
    predict(trained(), hq_folder, out)
    before = content(out)
    times = {path: path.stat().st_mtime_ns for path in out.glob("?q/**/*.png")}
    summary = predict(trained(), hq_folder, out)
    assert summary["made"] == 0
    assert content(out) == before
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_what_was_lost_is_made_again(hq_folder, tmp_path, predict, content):
    out = tmp_path / "pairs"
    predict(trained(), hq_folder, out)
    whole = content(out)
    lines = (out / "manifest.jsonl").read_text().splitlines(keepends=True)
    (out / "manifest.jsonl").write_text("".join([lines[0], lines[2], lines[5], lines[6][: len(lines[6]) // 2]]))
    (out / "lq" / "B.png").unlink()
    (out / "hq" / "sub" / "c.png").unlink()
    (out / "meta_info.txt").unlink()
    summary = predict(trained(), hq_folder, out)
    assert summary["made"] == 6
    assert content(out) == whole


def test_nothing_at_all_in_the_manifest(hq_folder, tmp_path, predict, content):
    out = tmp_path / "pairs"
    predict(trained(), hq_folder, out)
    whole = content(out)
    (out / "manifest.jsonl").write_bytes(b"\xff\x00 no JSON\n[1, 2]\n{}\n" + b'{"key": 3, "hq": 1, "lq": 2}\n')
    assert predict(trained(), hq_folder, out)["made"] == 7
    assert content(out) == whole


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"t_max": 30}, "degradation.t [0, 40] -> [0, 30]"),
        ({"seed": 1}, "seed 0 -> 1"),
        ({"degradation": "real_esrgan"}, "degradation.start.name bicubic -> real_esrgan"),
        ({"num_steps": None}, "degradation.sampling.num_steps 3 -> 12"),
        ({"sampler": "ancestral"}, "degradation.sampling.sampler sde-dpmsolver"),
        ({"scale": 2}, "scale 4 -> 2"),
        ({"psnr_drop": None}, "psnr_drop 2.0 -> None"),
        ({"tile": 512}, "tile 256 -> 512"),
        ({"t_weights": [2.0, 1.0]}, "degradation.t_weights None -> [2.0, 1.0]"),
    ],
)
def test_changed_settings_are_refused_and_write_nothing(hq_folder, tmp_path, predict, options, named):
    out = tmp_path / "pairs"
    predict(trained(), hq_folder, out)
    files = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    writer = PairWriter(str(out))
    with pytest.raises(ValueError, match="--allow_mixed true") as caught:
        writer.check(trained(**options), HighQualityImages(str(hq_folder)), "cpu")
    assert named in str(caught.value)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == files


def test_changed_checkpoint_is_refused_and_mixing_is_allowed_on_request(hq_folder, tmp_path, predict):
    out = tmp_path / "pairs"
    first = save_ckpt(tiny_denoiser(), tmp_path / "first.ckpt")
    second = save_ckpt(tiny_denoiser((8, 8)), tmp_path / "second.ckpt")
    predict(trained(), hq_folder, out, first)
    (out / "lq" / "a.png").unlink()
    with pytest.raises(ValueError, match="checkpoint_sha256"):
        other = PairGenerator("bicubic", t_max=40, slots=4, threads=1, num_steps=3, precision="fp32")
        other.add_walk(load_denoiser(second))
        PairWriter(str(out)).check(other, HighQualityImages(str(hq_folder)), "cpu")
    generator = PairGenerator("bicubic", t_max=40, slots=4, threads=1, num_steps=3, precision="fp32")
    generator.add_walk(load_denoiser(second))
    summary = predict(generator, hq_folder, out, second, {"allow_mixed": True})
    assert summary["made"] == 1 and len(records_of(out)) == 7
    described = yaml.safe_load((out / "run.yaml").read_text())["settings"]["checkpoint_sha256"]
    assert described == sha256((tmp_path / "second.ckpt").read_bytes()).hexdigest()


def test_resumed_run_takes_precision_slots_and_threads_from_the_folder(hq_folder, tmp_path, predict, content):
    out = tmp_path / "pairs"
    predict(trained(precision="bf16"), hq_folder, out)
    whole = content(out)
    (out / "lq" / "a.png").unlink()
    other = trained(slots=8, threads=2, precision="fp32")
    predict(other, hq_folder, out)
    assert other.runtime.record() == {"precision": "bf16", "compile": False, "slots": 4, "threads": 1}
    assert next(other.walk.running(torch.device("cpu")).parameters()).dtype == torch.bfloat16
    assert content(out) == whole


def test_where_the_folder_lies_does_not_matter(hq_folder, tmp_path, predict, content):
    out = tmp_path / "pairs"
    predict(trained(), hq_folder, out)
    whole = content(out)
    moved = out.rename(tmp_path / "elsewhere")
    hq_moved = hq_folder.rename(tmp_path / "pictures")
    (moved / "lq" / "d.png").unlink()
    assert predict(trained(), hq_moved, moved)["made"] == 1
    assert content(moved) == whole


def test_same_keys_of_other_pictures_are_refused(hq_folder, tmp_path, predict):
    out = tmp_path / "pairs"
    predict(trained(), hq_folder, out)
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (64, 64), "blue").save(other / "a.png")
    with pytest.raises(ValueError, match="contains a pair 'a' made from a different image"):
        PairWriter(str(out)).check(trained(), HighQualityImages(str(other)), "cpu")
    (other / "a.png").rename(other / "new.png")
    assert predict(trained(), other, out)["made"] == 1
    assert [record["key"] for record in records_of(out)] == ["B", "a", "b", "d", "e", "new", "sub/c", "é"]


@pytest.mark.parametrize("place", ["hq", "hq/pairs", "hq/sub"])
def test_output_inside_the_input_is_refused(hq_folder, tmp_path, place):
    with pytest.raises(ValueError, match="must not contain each other"):
        PairWriter(str(tmp_path / place)).check(trained(), HighQualityImages(str(hq_folder)), "cpu")


def test_input_that_would_be_overwritten_is_refused(hq_folder, tmp_path):
    with pytest.raises(ValueError, match="must not contain each other"):
        PairWriter(str(tmp_path)).check(trained(), HighQualityImages(str(hq_folder)), "cpu")


def test_file_and_folder_of_one_name_are_refused(hq_folder, tmp_path):
    (hq_folder / "a.png").rename(hq_folder / "a.jpg")
    (hq_folder / "a.png").mkdir()
    Image.new("RGB", (64, 64)).save(hq_folder / "a.png" / "b.png")
    with pytest.raises(ValueError, match="'a.jpg' would become a.png, which is a folder"):
        PairWriter(str(tmp_path / "pairs")).check(trained(), HighQualityImages(str(hq_folder)), "cpu")


def test_folders_named_like_our_own_files_survive(tmp_path, predict):
    root = tmp_path / "hq"
    (root / "x.tmp").mkdir(parents=True)
    Image.new("RGB", (64, 64), "blue").save(root / "x.tmp" / "a.tmp.png")
    for _ in range(2):
        predict(trained(), root, tmp_path / "pairs")
    assert (tmp_path / "pairs" / "lq" / "x.tmp" / "a.tmp.png").is_file()


def test_a_run_yaml_of_something_else_is_refused(hq_folder, tmp_path):
    out = tmp_path / "pairs"
    out.mkdir()
    for text in ("just: text\n", "[", "settings: {}\n", "\x00"):
        (out / "run.yaml").write_text(text)
        with pytest.raises(ValueError, match="does not describe a pairs folder"):
            PairWriter(str(out)).check(trained(), HighQualityImages(str(hq_folder)), "cpu")


class Silent(nn.Module):
    """Predicts zero noise, so the clean prediction is the noised image."""

    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, x_t, timestep):
        return x_t * self.nothing


@pytest.mark.parametrize("through_the_ddpm", [False, True])
def test_red_stays_red(tmp_path, predict, through_the_ddpm):
    root = tmp_path / "hq"
    root.mkdir()
    Image.new("RGB", (80, 64), (230, 20, 60)).save(root / "red.png")
    generator = PairGenerator("bicubic", t_max=0, threads=1)
    if through_the_ddpm:
        generator = PairGenerator("bicubic", t_min=3, t_max=3, threads=1)
        generator.add_walk(Denoiser(Silent(), Schedule()))
    predict(generator, root, tmp_path / "pairs")
    hq, lq = (Image.open(tmp_path / "pairs" / kind / "red.png") for kind in ("hq", "lq"))
    assert hq.getcolors() == [(64 * 80, (230, 20, 60))] and hq.mode == lq.mode == "RGB"
    assert (hq.size, lq.size) == ((80, 64), (20, 16))
    if through_the_ddpm:
        means = np.asarray(lq).mean(axis=(0, 1))
        np.testing.assert_allclose(means, (230, 20, 60), atol=2)
        assert records_of(tmp_path / "pairs")[0]["t"] == 3 and len(lq.getcolors()) > 10
    else:
        assert lq.getcolors() == [(20 * 16, (230, 20, 60))]
        assert records_of(tmp_path / "pairs")[0]["psnr"] is None


def test_awkward_pictures_come_out_or_are_listed(tmp_path, photos, predict, pixels):
    root = tmp_path / "hq"
    root.mkdir()
    photo = photos[1][:64, :64]
    Image.fromarray(photo).save(root / "good.png")
    Image.fromarray(photos[0]).save(root / "truncated.jpg", quality=95)
    data = (root / "truncated.jpg").read_bytes()
    (root / "truncated.jpg").write_bytes(data[: len(data) // 2])
    (root / "text.png").write_text("I am no picture")
    Image.fromarray(photo[:3, :3]).save(root / "small.png")
    deep = photo[..., 0].astype(np.uint16) * 257 + 60
    Image.fromarray(deep).save(root / "deep.png")
    Image.fromarray(photo).convert("CMYK").save(root / "cmyk.jpg", quality=95)
    alpha = np.full((64, 64, 1), 255, np.uint8)
    alpha[:, 32:] = 0
    Image.fromarray(np.concatenate([photo, alpha], axis=2)).save(root / "alpha.png")
    (root / "readme.md").write_text("notes")
    summary = predict(PairGenerator("bicubic", t_max=0, threads=1), root, tmp_path / "pairs")
    keys = ["alpha", "cmyk", "deep", "good"]
    assert [record["key"] for record in records_of(tmp_path / "pairs")] == keys and summary["made"] == 4
    made = {key: pixels(tmp_path / "pairs" / "hq" / f"{key}.png") for key in keys}
    np.testing.assert_array_equal(made["good"], photo)
    np.testing.assert_array_equal(made["deep"], np.repeat(((deep + 128) // 257).astype(np.uint8)[..., None], 3, axis=2))
    np.testing.assert_array_equal(made["alpha"][:, :32], photo[:, :32])
    assert (made["alpha"][:, 32:] == 255).all()
    assert np.abs(made["cmyk"].astype(int) - photo).mean() < 6
    failures = (tmp_path / "pairs" / "failures.jsonl").read_text().splitlines()
    reasons = {one["source"]: one["reason"] for one in map(json.loads, failures)}
    assert list(reasons) == ["readme.md", "small.png", "text.png", "truncated.jpg"]
    assert "truncated" in reasons["truncated.jpg"] and "not a readable PNG" in reasons["text.png"]
    assert "too small: got 3x3 px; expected 64 px" in reasons["small.png"] and "suffix" in reasons["readme.md"]


def test_hq_that_needs_no_change_is_copied(tmp_path, photos, predict, pixels):
    root, photo = tmp_path / "hq", photos[0]
    root.mkdir()
    sizes = {"plain": (64, 64), "cropped": (67, 93), "profile": (64, 64)}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for key, (height, width) in sizes.items():
        options = {"icc_profile": profile} if key == "profile" else {}
        Image.fromarray(photo[:height, :width]).save(root / f"{key}.png", compress_level=0, **options)
    Image.fromarray(photo[:64, :64]).save(root / "bitmap.bmp")
    summary = predict(PairGenerator("bicubic", t_max=0, threads=1, variants=2), root, tmp_path / "pairs")
    assert summary["made"] == 8
    for record in records_of(tmp_path / "pairs"):
        written = (tmp_path / "pairs" / record["hq"]).read_bytes()
        assert (written == (root / record["source"]).read_bytes()) is record["key"].startswith("plain")
        assert record["hq_sha256"] == sha256(written).hexdigest()
        height, width = pixels(tmp_path / "pairs" / record["hq"]).shape[:2]
        assert height % 4 == width % 4 == 0
        if not record["key"].startswith("profile"):
            np.testing.assert_array_equal(pixels(tmp_path / "pairs" / record["hq"]), photo[:height, :width])


@pytest.mark.parametrize("preparation", [{"sharpen_hq": True}, {"gray_hq": 1.0}])
def test_hq_that_is_prepared_is_not_copied(tmp_path, photos, predict, pixels, preparation):
    (tmp_path / "hq").mkdir()
    Image.fromarray(photos[0][:64, :64]).save(tmp_path / "hq" / "a.png")
    predict(PairGenerator("bicubic", t_max=0, threads=1, **preparation), tmp_path / "hq", tmp_path / "pairs")
    assert not np.array_equal(pixels(tmp_path / "pairs" / "hq" / "a.png"), photos[0][:64, :64])


def test_lines_end_where_json_says(tmp_path):
    """A key or an argument may contain characters that Python treats as line breaks."""
    folder = PairsFolder(tmp_path)
    picture = torch.zeros(3, 4, 4, dtype=torch.uint8)
    record = {"key": "a\u2028b", "hq": "hq/x.png", "lq": "lq/x.png", "note": "\x85\u2029"}
    folder.append(folder.store(picture, picture, record))
    assert [one["key"] for one in PairsFolder(tmp_path).records()] == ["a\u2028b"]
