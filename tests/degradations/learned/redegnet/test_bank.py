"""A bank of ReDegNet's codes as a degradation: what it draws, renders and resamples, and its files."""

import json
from argparse import Namespace
from collections import Counter

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_bank import identity_bank, save_reader, tiny_bank

from ddpm_pairs.degradations import Learned, by_name
from ddpm_pairs.degradations.base import degrade, spec_of
from ddpm_pairs.degradations.learned.files import describe, load_synthesizer, save_synthesizer
from ddpm_pairs.errors import UserError
from ddpm_pairs.synthesis import PairGenerator
from ddpm_pairs.synthesis.remake import main as remake
from ddpm_pairs.tensors import generator_for


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "bank.safetensors"
    save_synthesizer(tiny_bank(noise=True), path, {"faces": 3})
    return path


def random_hq(height, width, count=1):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_an_image_of_the_training_size_is_rendered_at_once():
    bank, hq = tiny_bank(), random_hq(16, 16)
    with torch.no_grad():
        rendered = bank.syn(hq, bank.codes[1:2])
    torch.testing.assert_close(bank.render(hq, bank.codes[1]), rendered)
    assert rendered.std() > 0.01 and not torch.allclose(bank.render(hq, bank.codes[2]), rendered, atol=1e-3)
    lq = bank.synthesize(hq, {"code": 1, "resampling": "bilinear"})
    middle = rendered.clamp(0, 1).unfold(2, 4, 4).unfold(3, 4, 4)[..., 1:3, 1:3].mean((-2, -1))
    torch.testing.assert_close(lq, middle)  # bilinear at 1/4: the four pixels in the middle of a cell


def test_a_smaller_image_is_padded_by_reflection():
    bank, hq = tiny_bank(), random_hq(12, 8)
    rows, columns = [*range(12), 10, 9, 8, 7], [*range(8), 6, 5, 4, 3, 2, 1, 0, 1]
    padded = hq[..., rows, :][..., columns]
    with torch.no_grad():
        expected = bank.syn(padded, bank.codes[:1])[..., :12, :8]
    torch.testing.assert_close(bank.render(hq, bank.codes[0]), expected)


def test_tiles_of_the_training_size_fade_into_each_other():
    """Two tiles that overlap by 4 px: the outer quarter of the overlap is dropped, the rest is blended linearly."""
    bank, hq = tiny_bank(), random_hq(16, 28)
    with torch.no_grad():
        first, second = (bank.syn(hq[..., left : left + 16], bank.codes[:1]) for left in (0, 12))
    blended = torch.lerp(first[..., 12:], second[..., :4], torch.tensor([0, 0.25, 0.75, 1]))
    expected = torch.cat([first[..., :12], blended, second[..., 4:]], dim=-1)
    torch.testing.assert_close(bank.render(hq, bank.codes[0]), expected)
    assert not torch.allclose(first[..., 12:], second[..., :4], atol=1e-3)


@pytest.mark.parametrize("size", [(16, 16), (20, 16), (36, 52), (64, 12)])
def test_tiles_of_any_number_are_the_whole_image(size):
    bank, hq = identity_bank(), random_hq(*size)
    torch.testing.assert_close(bank.render(hq, bank.codes[0]), hq)


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("resampling", ["bilinear", "bicubic"])
def test_lq_is_aligned_with_hq(scale, resampling):
    bank = identity_bank(scale=scale)
    ramp = (torch.arange(64.0) / 64).expand(1, 3, 32, 64)
    for hq, axis in ((ramp, -1), (ramp.mT, -2)):
        lq = bank.synthesize(hq, {"code": 0, "resampling": resampling}).movedim(axis, -1)[0, 0, 3] * 64
        drift = lq - (torch.arange(64 // scale) * scale + (scale - 1) / 2)
        assert drift[1:-1].abs().max() < 0.1


@pytest.mark.parametrize(("resampling", "kept"), [("bilinear", 0.5), ("bicubic", 2 * (0.59375**2 + 0.09375**2))])
def test_noise_is_added_before_resampling_without_antialiasing(resampling, kept):
    """Each axis keeps the sum of the squared taps of the variance: two of 1/2, or -0.09375 and 0.59375 twice."""
    bank, hq = identity_bank(levels=4), torch.full((1, 3, 128, 128), 0.5)
    lq = bank.synthesize(hq, {"code": 0, "resampling": resampling, "noise": 20.0, "noise_seed": 3})
    assert float(lq.std() * 255) == pytest.approx(20 * kept, rel=0.05)
    assert float(lq.mean()) == pytest.approx(0.5, abs=2e-3)
    white = bank.synthesize(torch.ones_like(hq), {"code": 0, "resampling": "bilinear", "noise": 20.0, "noise_seed": 3})
    assert float(white.max()) <= 1 and float(white.mean()) < 0.98  # clamped before it is averaged


def test_draws_are_those_of_the_released_training():
    bank = tiny_bank(noise=True)
    drawn = [bank.draw(generator_for(seed)) for seed in range(6000)]
    assert json.loads(json.dumps(drawn)) == drawn
    assert all(one["source"] == bank.sources[one["code"]] for one in drawn)
    assert len({one["noise_seed"] for one in drawn}) == 6000
    for name, expected in (
        ("code", {0: 1 / 3, 1: 1 / 3, 2: 1 / 3}),
        ("resampling", dict.fromkeys(["bilinear", "bicubic"], 0.5)),
    ):
        check_shares(Counter(one[name] for one in drawn), expected)
    sigma = {round(hundredth * 127.5 / 100, 3): 0.4 / 21 for hundredth in range(21)}  # [-1, 1] is 255 levels
    check_shares(Counter(one["noise"] for one in drawn), sigma | {0.0: 0.6 + 0.4 / 21})


def check_shares(counted, expected):
    total = sum(counted.values())
    assert counted.keys() == expected.keys()
    for value, share in expected.items():
        assert abs(counted[value] / total - share) < 4 * (share * (1 - share) / total) ** 0.5


def test_without_noise_none_is_drawn():
    drawn = [tiny_bank().draw(generator_for(seed)) for seed in range(20)]
    assert {tuple(one) for one in drawn} == {("code", "source", "resampling")}


def test_rows_do_not_depend_on_each_other(saved):
    degradation = by_name(str(saved))
    hq = random_hq(24, 40, 4)
    drawn = [degradation.draw(generator_for(0, str(row))) for row in range(4)]
    together = degradation.apply(hq, drawn)
    assert together.shape == (4, 3, 6, 10) and len({one["code"] for one in drawn}) > 1
    for row in range(4):
        assert torch.equal(degradation.apply(hq[row : row + 1], drawn[row : row + 1])[0], together[row])
    assert torch.equal(degradation.apply(hq, drawn), together)


def test_sides_need_not_fit_the_network(saved):
    """HQ is padded to multiples of 4, and the network's tiles begin at them."""
    degradation = by_name(str(saved))
    assert (degradation.name, degradation.scale, degradation.multiple) == ("redegnet", 4, 4)
    assert degrade(degradation, random_hq(67, 94), 1).shape == (1, 3, 16, 23)
    assert Learned(tiny_bank(scale=1)).multiple == 4


def test_a_pair_is_made_again_from_its_line(saved, hq_folder, tmp_path, predict):
    save_synthesizer(tiny_bank(levels=4, noise=True), saved, {})
    predict(PairGenerator(str(saved), t_max=0, threads=1), hq_folder, tmp_path / "pairs")
    lines = [json.loads(line) for line in (tmp_path / "pairs" / "manifest.jsonl").open()]
    for line in lines:
        drawn = line["degradation"]["parameters"]
        assert line["degradation"]["name"] == "redegnet" and drawn["source"] == tiny_bank().sources[drawn["code"]]
    assert len({line["degradation"]["parameters"]["source"] for line in lines}) > 1
    words = {"pairs": tmp_path / "pairs", "key": "sub/c", "ckpt_path": None, "degradation": None, "output_dir": None}
    assert remake(Namespace(**words)) == 0
    save_synthesizer(tiny_bank(seed=1, levels=4, noise=True), saved, {})
    with pytest.raises(UserError, match="SHA-256|not the one"):
        remake(Namespace(**words))


def test_the_file_builds_it_again(saved):
    net, training = load_synthesizer(saved)
    bank = tiny_bank(noise=True)
    assert net.init_args == bank.init_args and training == {"faces": 3}
    assert torch.equal(net.codes, bank.codes) and net.sources == ["a.png", "b.png", "album/c.jpg#2"]
    assert spec_of(by_name(str(saved)))["weights_sha256"] == spec_of(Learned(str(saved)))["weights_sha256"]


def test_a_reader_is_not_a_bank(tmp_path):
    save_reader(tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="make a bank with `ddpm-pairs bank"):
        by_name(str(tmp_path / "last.ckpt"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sources": ["a", "b"]}, r"codes is \[3, 8\] instead of \[2, 8\]"),
        ({"sources": []}, "sources: got none"),
        ({"sources": ["a", 2, "c"]}, r"CodeBank.sources: got .*valid string"),
        ({"sources": "a"}, "CodeBank.sources: got 'a'"),
        ({"sources": ["x" * 10] * 10**5}, "do not fit its network|cannot be built"),
        ({"code": 16}, "do not fit its network"),
        ({"code": 10**12}, "cannot be built"),
        ({"width": 10**9}, "cannot be built"),
        ({"levels": 10**9}, "levels: got 1000000000; expected at most 10"),
        ({"levels": 0}, "levels: got 0; expected 1 or more"),
        ({"levels": 3}, "do not fit its network"),
        ({"scale": 3}, "redegnet scale: got 3; expected one of 1, 2, 4"),
        ({"noise": "often"}, "CodeBank.noise: got 'often'"),
        ({"widths": 4}, "cannot be built"),
    ],
)
def test_a_file_with_wrong_sizes_is_refused_in_words(saved, arguments, message):
    description = describe(tiny_bank())
    description["net"]["init_args"] |= arguments
    save_file(load_file(saved), saved, {"ddpm_pairs": json.dumps(description)})
    with pytest.raises(UserError, match=message) as caught:
        by_name(str(saved))
    assert "\n" not in str(caught.value)


def test_codes_of_another_type_become_floats(saved):
    weights = load_file(saved)
    save_file(weights | {"codes": weights["codes"].long()}, saved, {"ddpm_pairs": json.dumps(describe(tiny_bank()))})
    assert by_name(str(saved)).net.codes.dtype == torch.float32
