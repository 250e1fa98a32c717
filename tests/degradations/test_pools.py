"""RealSR's pools as a degradation: aligned, random where it says so, with the noise of its patches."""

import json
from argparse import Namespace

import pytest
import torch
from planted_noise import covariance, distance, noisy_image, planted_covariance
from safetensors.torch import load_file, save_file

from ddpm_pairs.degradations import Learned, by_name
from ddpm_pairs.degradations.base import spec_of
from ddpm_pairs.degradations.learned.files import describe, load_synthesizer, save_synthesizer
from ddpm_pairs.degradations.learned.pools import RealSR, blur_and_decimate, lay_noise
from ddpm_pairs.errors import UserError
from ddpm_pairs.pools.flat_patches import flat_patches
from ddpm_pairs.synthesis import PairGenerator
from ddpm_pairs.synthesis.remake import main as remake
from ddpm_pairs.tensors import generator_for


def pools(scale=4, kernels=3, images=2):
    """Two images' noise and three kernels of side 12."""
    patches = [flat_patches(noisy_image(64, 64, seed), 16, 20, 0, 4, 0) for seed in range(images)]
    net = RealSR(scale, kernels, 12, sum(map(len, patches)), 16)
    values = torch.rand(kernels, 12, 12, generator=torch.Generator().manual_seed(3))
    net.kernels.copy_(values / values.sum(dim=(1, 2), keepdim=True))
    net.patches.copy_(torch.cat(patches))
    net.sources.copy_(torch.repeat_interleave(torch.arange(images), torch.tensor([len(one) for one in patches])))
    return net


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "pools.safetensors"
    save_synthesizer(pools(), path, {"noise_from": ["a.png"] * 4 + ["b.png"] * 4})
    return path


def test_lq_is_the_blurred_and_decimated_image_plus_noise():
    net = pools()
    hq = torch.rand(1, 3, 40, 48, generator=torch.Generator().manual_seed(0))
    drawn = {"kernel": 2, "noise": 5, "noise_seed": 9}
    lq = net.synthesize(hq, drawn)
    padded = torch.nn.functional.pad(hq, (4, 4, 4, 4), mode="reflect")
    by_hand = sum(
        net.kernels[2, y, x] * padded[..., y : y + 40 : 4, x : x + 48 : 4] for y in range(12) for x in range(12)
    )
    torch.testing.assert_close(lq, by_hand + lay_noise(net.patches[net.sources == 1], (10, 12), 9))
    assert not torch.equal(net.synthesize(hq, drawn | {"noise_seed": 10}), lq)
    assert not torch.equal(net.synthesize(hq, drawn | {"kernel": 1}), lq)
    assert not torch.equal(net.synthesize(hq, drawn | {"noise": 0}), lq)


def test_the_cell_of_a_kernel_of_one_cell_is_averaged():
    image = torch.rand(1, 3, 24, 32)
    mean = blur_and_decimate(image, torch.full((4, 4), 1 / 16), 4)
    torch.testing.assert_close(mean, torch.nn.functional.avg_pool2d(image, 4))


def test_the_noise_of_lq_has_the_covariance_of_the_patches():
    patches = torch.cat([flat_patches(noisy_image(256, 256, seed), 32, 20, 0, 8, 0) for seed in range(4)])
    noise = torch.cat([lay_noise(patches, (150, 170), seed) for seed in range(20)]) * 255
    expected = planted_covariance()
    assert distance(covariance(noise), expected) < 0.06
    assert abs(float(noise.square().mean() / expected[0].diagonal().mean()) - 1) < 0.05


def test_the_noise_has_no_seams():
    """The variance is the same at every place of the grid, whose period is 24 px."""
    patches = (128 + 4 * torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))).round().byte()
    power = torch.stack([lay_noise(patches, (96, 96), seed).square().mean(dim=(0, 1)) for seed in range(120)]).mean(0)
    assert float(power.mean(dim=0).std() / power.mean()) < 0.04 and float(power.std() / power.mean()) < 0.12


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (23, 25), (24, 24), (25, 90)])
def test_noise_of_any_size(size):
    patches = noisy_image(16, 16, 0)[None]
    noise = lay_noise(patches, size, 3)
    assert noise.shape == (1, 3, *size) and noise.abs().max() > 0
    assert torch.equal(noise, lay_noise(patches, size, 3))


def test_blocks_keep_their_place():
    """Blocks of 8 px in the patches are blocks of 8 px in LQ."""
    blocks = torch.randint(100, 150, (6, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    patches = blocks.repeat_interleave(8, 2).repeat_interleave(8, 3).byte()
    noise = lay_noise(patches, (64, 64), 0)
    jumps = (noise[..., 1:] - noise[..., :-1]).abs().amax(dim=(0, 1, 2))
    inside = jumps[[place for place in range(63) if place % 8 != 7]]
    assert jumps[7::8].min() > 2 * inside.median()


def test_rows_do_not_depend_on_each_other(saved):
    degradation = by_name(str(saved))
    hq = torch.rand(4, 3, 48, 40)
    drawn = [degradation.draw(generator_for(0, str(row))) for row in range(4)]
    together = degradation.apply(hq, drawn)
    for row in range(4):
        assert torch.equal(degradation.apply(hq[row : row + 1], drawn[row : row + 1])[0], together[row])


def test_draws_are_plain_and_cover_the_pools(saved):
    degradation = by_name(str(saved))
    assert (degradation.name, degradation.scale) == ("realsr", 4) and degradation.training["noise_from"][7] == "b.png"
    drawn = [degradation.draw(generator_for(seed)) for seed in range(100)]
    assert json.loads(json.dumps(drawn)) == drawn
    assert {one["kernel"] for one in drawn} == set(range(3)) and {one["noise"] for one in drawn} == set(range(8))
    assert len({one["noise_seed"] for one in drawn}) == 100


def test_a_pair_is_made_again_from_its_line(saved, hq_folder, tmp_path, predict, capsys):
    predict(PairGenerator(str(saved), t_max=0, threads=1), hq_folder, tmp_path / "pairs")
    lines = [json.loads(line) for line in (tmp_path / "pairs" / "manifest.jsonl").open()]
    for line in lines:
        entry = line["degradation"]
        assert entry["name"] == "realsr" and set(entry["parameters"]) == {"kernel", "noise", "noise_seed"}
    words = {"pairs": tmp_path / "pairs", "key": "sub/c", "ckpt_path": None, "degradation": None, "output_dir": None}
    assert remake(Namespace(**words)) == 0
    other = pools(kernels=2)
    save_synthesizer(other, saved, {})
    with pytest.raises(UserError, match="SHA-256|not the one"):
        remake(Namespace(**words))


def test_the_description_builds_it_again(saved):
    assert spec_of(Learned(str(saved)))["weights_sha256"] == spec_of(by_name(str(saved)))["weights_sha256"]
    net, training = load_synthesizer(saved)
    assert net.patches.dtype == torch.uint8 and torch.equal(net.patches, pools().patches)
    assert torch.equal(net.kernels, pools().kernels) and len(training["noise_from"]) == len(net.patches)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernels": 4}, "kernels is .3, 12, 12. instead of .4, 12, 12."),
        ({"patch_side": 24}, "do not fit its network"),
        ({"patch_side": 20}, "patch_side: got 20; expected a multiple of 8"),
        ({"kernel_side": 13}, "kernel_side: got 13; expected 4 plus an even number"),
        ({"scale": 0}, "scale: got 0"),
        ({"patches": 10**12}, "cannot be built"),
        ({"kernels": "many"}, "kernels: got 'many'"),
    ],
)
def test_a_file_with_wrong_sizes_is_refused_in_words(saved, arguments, message):
    description = describe(pools())
    description["net"]["init_args"] |= arguments
    save_file(load_file(saved), saved, {"ddpm_pairs": json.dumps(description)})
    with pytest.raises(UserError, match=message):
        by_name(str(saved))
