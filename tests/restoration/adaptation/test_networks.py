"""Parameter counts of the published networks, derived by hand, and the images that they take."""

import pytest
import torch

from ddpm_pairs.errors import UserError
from ddpm_pairs.images.tiling import restore_picture
from ddpm_pairs.restoration import ConditionalUNet, RestorationUNet


def conv(inputs, outputs, side=3):
    return inputs * outputs * side**2 + outputs


def block(inputs, outputs, time=256):
    """A residual block of guided diffusion, with a scale and a shift for each feature."""
    skip = conv(inputs, outputs, 1) if inputs != outputs else 0
    return 2 * inputs + conv(inputs, outputs) + 2 * outputs + conv(outputs, outputs) + (time + 1) * 2 * outputs + skip


def denoiser_parameters(widths, blocks=2):
    total, inputs, skips = conv(9, widths[0]), widths[0], [widths[0]]
    for level, width in enumerate(widths):
        for _ in range(blocks):
            total, inputs = total + block(inputs, width), width
            skips.append(width)
        if level < len(widths) - 1:
            total += block(width, width)
            skips.append(width)
    total += 2 * block(inputs, inputs)  # the middle: a block, attention with its normalization, a block
    total += 2 * inputs + 4 * conv(inputs, inputs, 1)
    for level, width in reversed(list(enumerate(widths))):
        for _ in range(blocks + 1):
            total, inputs = total + block(inputs + skips.pop(), width), width
        if level > 0:
            total += block(width, width)
    return total + 2 * inputs + conv(inputs, 3) + (64 + 1) * 256 + (256 + 1) * 256


def parameters(net):
    return sum(one.numel() for one in net.parameters())


def test_the_denoiser_has_the_published_size():
    with torch.device("meta"):
        found = parameters(ConditionalUNet())
    assert found == denoiser_parameters((64, 128, 256, 512)) == 62_643_075


def test_attention_normalizes():
    net = ConditionalUNet((8, 8), layers_per_block=1, head_dim=4, norm_groups=4)
    assert net(torch.rand(1, 9, 8, 8), torch.tensor([0.5])).isfinite().all()
    assert net.mid_block.attentions[0].group_norm.num_groups == 4


def test_the_restorer_has_the_published_size():
    assert parameters(RestorationUNet()) == 8_559_171


def test_sides_are_padded_to_a_multiple_of_8():
    torch.manual_seed(0)
    net, image = RestorationUNet([8, 8, 8, 8]), torch.rand(3, 21, 30)
    assert net.multiple == 8
    restored = restore_picture(net, image)
    assert restored.shape == image.shape
    padded = torch.nn.functional.pad(image[None], (0, 2, 0, 3), mode="reflect")
    with torch.no_grad():
        assert torch.equal(restored, net(padded)[0, :, :21, :30])


def test_the_denoiser_uses_level_conditions_and_blocks_of_pixels():
    torch.manual_seed(0)
    options = {"layers_per_block": 1, "attention": False, "norm_groups": 4, "dropout": 0.0}
    images, gamma = torch.rand(1, 9, 16, 16), torch.tensor([0.3])
    for patch in (1, 4):
        net = ConditionalUNet((8, 8), patch=patch, **options)
        assert net.multiple == 2 * patch
        predicted = net(images, gamma)
        assert predicted.shape == (1, 3, 16, 16)
        assert not torch.allclose(net(images, torch.tensor([0.9])), predicted, atol=1e-4)
        for channel in (0, 3, 6):
            changed = images.clone()
            changed[:, channel] += 1
            assert not torch.allclose(net(changed, gamma), predicted, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RestorationUNet([]), "widths: got"),
        (lambda: ConditionalUNet((10,)), "expected multiples of norm_groups"),
        (lambda: ConditionalUNet((32,), patch=0), "patch: got 0; expected 1 or more"),
    ],
)
def test_sizes_that_do_not_exist(make, said):
    with pytest.raises(UserError, match=said):
        make()
