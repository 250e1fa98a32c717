import math
import os
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ddpm_pairs.images.decode import decode_picture
from ddpm_pairs.images.pixels import eight_bit
from ddpm_pairs.metrics.paired_scores import LPIPS, bootstrap_interval, paired_scores
from ddpm_pairs.metrics.weights import ALEXNET, weights_path


@pytest.fixture
def pair(photos):
    reference = torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2)
    noise = 20 * torch.randn(reference.shape, generator=torch.Generator().manual_seed(0))
    return (reference + noise).clamp(0, 255).round().to(torch.uint8), reference


def test_psnr_and_ssim_equal_scikit_images(pair):
    result, reference = pair
    scores = paired_scores(result, reference)
    assert list(scores) == ["psnr", "ssim"]
    for n in range(len(result)):
        a, b = (part[n].permute(1, 2, 0).numpy() for part in (result, reference))
        assert scores["psnr"][n].item() == pytest.approx(peak_signal_noise_ratio(b, a), abs=1e-4)
        expected = structural_similarity(
            b, a, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert scores["ssim"][n].item() == pytest.approx(expected, abs=1e-4)


def test_a_shift_by_five_levels_has_a_known_psnr():
    black = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    assert paired_scores(black + 5, black)["psnr"].item() == pytest.approx(20 * math.log10(255 / 5), abs=1e-4)
    assert paired_scores(black, black)["psnr"].item() == math.inf


def test_lpips_equals_the_package_on_the_same_weights(pair, tmp_path):
    torch.manual_seed(0)
    package = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    layers = {number: layer for part in package.net.children() for number, layer in part.named_children()}
    weights = {
        f"features.{n}.{name}": value for n, layer in layers.items() for name, value in layer.state_dict().items()
    }
    torch.save(weights | {"classifier.6.bias": torch.zeros(1)}, tmp_path / "alexnet.pth")
    torch.manual_seed(1)
    result, reference = pair
    found = paired_scores(result, reference, LPIPS(tmp_path / "alexnet.pth"))["lpips"]
    with torch.no_grad():
        expected = package(result.float() / 255, reference.float() / 255, normalize=True).flatten()
    assert found == pytest.approx(expected, rel=1e-5)
    assert found.min() > 0


@pytest.mark.skipif(
    not os.environ.get("DDPM_PAIRS_WEIGHTS"), reason="$DDPM_PAIRS_WEIGHTS is not set: no real metric weights"
)
@pytest.mark.parametrize(("name", "published"), [("ex_p0", 0.722), ("ex_p1", 0.138)])
def test_lpips_of_the_published_example(name, published):
    folder = Path(__file__).parent / "lpips_example"  # pictures of the lpips repository
    result, reference = (
        torch.from_numpy(decode_picture(folder / f"{one}.png")).permute(2, 0, 1)[None] for one in (name, "ex_ref")
    )
    found = paired_scores(result, reference, LPIPS(weights_path(ALEXNET)))["lpips"]
    assert found.item() == pytest.approx(published, abs=5e-4)


@pytest.mark.parametrize("content", [b"text", None])
def test_other_files_are_no_alexnet(tmp_path, content):
    path = tmp_path / "alexnet.pth"
    path.write_bytes(content) if content else torch.save({"features.0.weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="expected weights of AlexNet"):
        LPIPS(path)


def test_what_does_not_fit_is_refused(pair):
    result, reference = pair
    with pytest.raises(ValueError, match="expected uint8 images of equal size"):
        paired_scores(result.float(), reference)
    with pytest.raises(ValueError, match="expected uint8 images of equal size"):
        paired_scores(result[..., 1:], reference)
    with pytest.raises(ValueError, match="got images of 31x96 px"):
        paired_scores(result[..., :31], reference[..., :31])


def test_eight_bit_clamps_where_a_cast_would_wrap():
    values = torch.tensor([-0.1, 0.0, 0.5 / 255 + 1e-4, 0.999, 1.0, 1.004])
    assert eight_bit(values).tolist() == [0, 0, 1, 255, 255, 255]


def test_bootstrap_interval_has_the_width_of_the_standard_error():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0)) * 2 + 5
    low, high = bootstrap_interval(values)
    standard_error = values.std().item() / 20
    assert low == pytest.approx(values.mean().item() - 1.96 * standard_error, abs=0.15 * standard_error)
    assert high == pytest.approx(values.mean().item() + 1.96 * standard_error, abs=0.15 * standard_error)
    assert bootstrap_interval(values) == (low, high)
    assert bootstrap_interval(values[:1]) is None
