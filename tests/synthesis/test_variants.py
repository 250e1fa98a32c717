"""Several pairs of one HQ image: their keys, their random parameters, and how a folder is resumed with them."""

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny_ddpm import save_ckpt, tiny_denoiser

from ddpm_pairs.data import HighQualityImages
from ddpm_pairs.images.find import Picture
from ddpm_pairs.pairset.records import variant_keys
from ddpm_pairs.synthesis import PairGenerator, PairWriter
from ddpm_pairs.synthesis.planning import check_variants, plan
from ddpm_pairs.synthesis.remake import main

KEYS = ["a", "a~1", "a~2", "sub/c", "sub/c~1", "sub/c~2"]


@pytest.fixture
def few(hq_folder):
    """Two images with different canvas sizes, and a file that is not an image."""
    for key in ("B", "b", "d", "e", "é"):
        (hq_folder / f"{key}.png").unlink()
    (hq_folder / "broken.png").write_bytes((hq_folder / "a.png").read_bytes()[:300])
    return hq_folder


def handcrafted(variants, **options):
    return PairGenerator("real_esrgan", **{"t_max": 0, "slots": 4, "threads": 1, "variants": variants} | options)


def lines_of(root):
    return {one["key"]: one for one in map(json.loads, (root / "manifest.jsonl").open())}


def test_each_variant_has_its_own_draws_and_its_own_hq_file(few, tmp_path, predict, pixels):
    generator = handcrafted(3, t_max=40, num_steps=2)
    generator.add_walk(tiny_denoiser())
    summary = predict(generator, few, tmp_path / "pairs", save_ckpt(tiny_denoiser(), tmp_path / "tiny.ckpt"))
    lines = lines_of(tmp_path / "pairs")
    assert list(lines) == KEYS and summary["made"] == 6
    for name in ("a", "sub/c"):
        mine = [lines[key] for key in variant_keys(name, 3)]
        assert {one["source"] for one in mine} == {f"{name}.png"} and len({one["source_sha256"] for one in mine}) == 1
        assert len({json.dumps(one["degradation"]) for one in mine}) == 3
        assert len({(tmp_path / "pairs" / one["hq"]).read_bytes() for one in mine}) == 1
        assert len({pixels(tmp_path / "pairs" / one["lq"]).tobytes() for one in mine}) == 3
    assert len({one["t"] for one in lines.values()}) > 2
    assert [failure.source for failure in summary["failures"]] == ["broken.png"]  # once, not three times
    run = yaml.safe_load((tmp_path / "pairs" / "run.yaml").read_text())
    assert run["settings"]["variants"] == 3
    for key in ("a~2", "sub/c~1"):
        assert (
            main(Namespace(pairs=tmp_path / "pairs", key=key, ckpt_path=None, degradation=None, output_dir=None)) == 0
        )


def test_what_is_lost_is_made_again_and_a_folder_may_get_more_but_not_fewer(few, tmp_path, predict, content):
    predict(handcrafted(3), few, tmp_path / "unbroken")
    out = tmp_path / "pairs"
    predict(handcrafted(1), few, out)
    assert list(lines_of(out)) == ["a", "sub/c"]
    assert predict(handcrafted(3), few, out)["made"] == 4
    assert content(out) == content(tmp_path / "unbroken")
    (out / "lq" / "a~1.png").unlink()
    assert predict(handcrafted(3), few, out)["made"] == 1
    assert content(out) == content(tmp_path / "unbroken")
    with pytest.raises(ValueError, match=r"made with different settings \(variants 3 -> 2\)"):
        PairWriter(str(out)).check(handcrafted(2), HighQualityImages(str(few)), "cpu")


def test_variants_of_pictures_turned_gray_have_each_their_hq(tmp_path, photos, predict, pixels):
    (tmp_path / "hq").mkdir()
    Image.fromarray(photos[1][:64, :64]).save(tmp_path / "hq" / "a.png")
    predict(handcrafted(8, gray_hq=0.5), tmp_path / "hq", tmp_path / "pairs")
    gray = {key: line["hq_preparation"]["gray"] for key, line in lines_of(tmp_path / "pairs").items()}
    assert set(gray.values()) == {True, False}
    for key, is_gray in gray.items():
        hq = pixels(tmp_path / "pairs" / "hq" / f"{key}.png")
        assert np.array_equal(hq[..., 0], hq[..., 2]) == is_gray


def test_a_source_with_the_key_of_a_variant_is_refused(few, tmp_path):
    (few / "a~2.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="'a~2.jpg' and a variant of 'a.png' would have the same key 'a~2'") as caught:
        PairWriter(str(tmp_path / "pairs")).check(handcrafted(3), HighQualityImages(str(few)), "cpu")
    assert "\n" not in str(caught.value)
    named = [Picture(key, Path(), f"{key}.png") for key in ("a", "a~2", "b~1")]
    check_variants(named, 2)  # a~1 and a~2~1; b~1 is not a variant of another image


def test_batches_share_a_canvas_and_large_pictures_have_one_each(few):
    (few / "broken.png").write_text("no picture at all")
    data = HighQualityImages(str(few))
    data.find()
    generator = PairGenerator("bicubic", t_max=0, slots=4, threads=1, variants=3)
    batches, failures = plan(data.pictures, generator)
    assert [[one.key for one in batch] for batch in batches] == [["a", "a~1", "a~2"], ["sub/c", "sub/c~1", "sub/c~2"]]
    assert [failure.source for failure in failures] == ["broken.png"]
    generator = PairGenerator("bicubic", scale=2, t_max=0, slots=4, threads=1, tile=64, variants=2)
    Image.new("RGB", (130, 64)).save(few / "wide.png")
    data = HighQualityImages(str(few))
    data.find()
    batches = plan(data.pictures, generator).batches
    assert [len(batch) for batch in batches] == [2, 1, 1, 2] and batches[1][0].key == "wide"
