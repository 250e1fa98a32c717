import json
import shutil
from argparse import Namespace

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny_ddpm import save_ckpt, save_safetensors, tiny_denoiser

from ddpm_pairs.synthesis import PairGenerator
from ddpm_pairs.synthesis.remake import main, remake

KEYS = ["B", "a", "b", "d", "e", "sub/c", "é"]


@pytest.fixture
def made(hq_folder, tmp_path, predict):
    """A pairs folder of three canvases, half of them padded, and its checkpoint."""
    denoiser = tiny_denoiser((8, 8, 8, 8))
    checkpoint = save_ckpt(denoiser, tmp_path / "tiny.ckpt")
    generator = PairGenerator("real_esrgan", t_min=0, t_max=40, slots=4, threads=1, num_steps=3)
    generator.add_walk(denoiser)
    predict(generator, hq_folder, tmp_path / "pairs", checkpoint)
    return tmp_path / "pairs"


def words(pairs, key, **others):
    return Namespace(
        **{"pairs": pairs, "key": key, "ckpt_path": None, "degradation": None, "output_dir": None} | others
    )


def test_every_pair_is_made_again_bit_for_bit(made, pixels):
    sizes = set()
    for key in KEYS:
        pair = remake(made, key)
        np.testing.assert_array_equal(pair.lq.permute(1, 2, 0).numpy(), pixels(made / "lq" / f"{key}.png"))
        np.testing.assert_array_equal(pair.hq.permute(1, 2, 0).numpy(), pixels(made / "hq" / f"{key}.png"))
        line = next(line for line in map(json.loads, (made / "manifest.jsonl").open()) if line["key"] == key)
        assert pair.record == {name: line[name] for name in line if name not in ("hq_sha256", "lq_sha256")}
        sizes.add(tuple(pair.lq.shape))
    assert len(sizes) == 3


def test_command_says_equal_and_writes_the_pair(made, tmp_path, capsys):
    assert main(words(made, "sub/c", output_dir=tmp_path / "again")) == 0
    assert "sub/c: equal to" in capsys.readouterr().out
    for name in ("hq/sub/c.png", "lq/sub/c.png"):
        assert (tmp_path / "again" / name).read_bytes() == (made / name).read_bytes()


def test_altered_lq_is_detected(made, capsys):
    altered = np.array(Image.open(made / "lq" / "a.png"))
    altered[3, 4, 1] ^= 5
    Image.fromarray(altered).save(made / "lq" / "a.png")
    assert main(words(made, "a")) == 1
    assert "1 of 256 pixels differ" in capsys.readouterr().out
    Image.fromarray(altered[:8]).save(made / "lq" / "a.png")
    assert main(words(made, "a")) == 1
    assert "16x16 instead of 16x8" in capsys.readouterr().out


def test_altered_hq_is_detected(made):
    hq = np.array(Image.open(made / "hq" / "b.png"))
    Image.fromarray(255 - hq).save(made / "hq" / "b.png")
    assert main(words(made, "b")) == 1


def test_works_after_moving_folder_sources_and_checkpoint(made, hq_folder, tmp_path):
    moved = made.rename(tmp_path / "moved")
    shutil.rmtree(hq_folder)
    assert main(words(moved, "B")) == 0
    (tmp_path / "tiny.ckpt").rename(tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="tiny.ckpt does not exist"):
        remake(moved, "B")
    assert main(words(moved, "B", ckpt_path=str(tmp_path / "other.ckpt"))) == 0


def test_pairs_without_a_ddpm_need_no_checkpoint(hq_folder, tmp_path, predict):
    predict(PairGenerator("real_esrgan", t_max=0, threads=1), hq_folder, tmp_path / "pairs")
    assert all(main(words(tmp_path / "pairs", key)) == 0 for key in ("B", "sub/c"))


@pytest.mark.parametrize(
    ("spoil", "key", "text"),
    [
        (lambda root: None, "nowhere", "KEY: got 'nowhere'; expected the key of a pair"),
        (lambda root: (root / "lq" / "a.png").unlink(), "a", "KEY: got 'a'; expected the key of a pair"),
        (lambda root: (root / "run.yaml").unlink(), "a", "contains no run.yaml"),
        (lambda root: (root / "run.yaml").write_text("{}"), "a", "does not describe a pairs folder"),
        (lambda root: shutil.rmtree(root), "a", "contains no run.yaml"),
    ],
)
def test_errors_are_one_line(made, spoil, key, text):
    spoil(made)
    with pytest.raises(ValueError, match=text) as caught:
        remake(made, key)
    assert "\n" not in str(caught.value)


def test_another_checkpoint_is_refused(made, tmp_path):
    other = save_safetensors(tiny_denoiser(), tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="other.safetensors is not the one that made"):
        remake(made, "a", other)


def test_mixed_folder_is_remade_from_the_lines(made, hq_folder, tmp_path, predict):
    """The settings in a manifest line override those of the last run."""
    generator = PairGenerator("real_esrgan", t_max=40, slots=4, threads=1, num_steps=5, sampler="ancestral", seed=9)
    generator.add_walk(tiny_denoiser((8, 8, 8, 8)))
    (made / "lq" / "a.png").unlink()
    predict(generator, hq_folder, made, str(tmp_path / "tiny.ckpt"), {"allow_mixed": True})
    assert yaml.safe_load((made / "run.yaml").read_text())["settings"]["seed"] == 9
    assert main(words(made, "a")) == 0 and main(words(made, "b")) == 0
    predict(PairGenerator("bicubic", t_max=0, threads=1), hq_folder, made, None, {"allow_mixed": True})
    with pytest.raises(ValueError, match="earlier run than the one that run.yaml describes"):
        remake(made, "a")
