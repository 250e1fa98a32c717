"""KernelGAN: the step as the paper writes it, and the kernel of an image made with a known one."""

import math

import pytest
import skimage.data
import torch
import torch.nn.functional as F

from ddpm_pairs.pools import kernel_gan
from ddpm_pairs.pools.kernel_gan import (
    CENTER,
    CROP,
    HALVED,
    KERNEL_SIDE,
    Discriminator,
    Generator,
    NoKernel,
    estimate_kernel,
    halve,
)
from ddpm_pairs.pools.kernels import center_of, finished_kernel, shape_of


@pytest.fixture
def image():
    return torch.rand(3, 70, 81, generator=torch.Generator().manual_seed(0))


def six_layers(generator, images):
    """Run the generator as the paper describes it: six convolutions on each color, the last with stride 2."""
    planes = images.transpose(0, 1)
    for number, layer in enumerate(generator.layers):
        planes = F.conv2d(planes, layer.weight, stride=2 if number == len(generator.layers) - 1 else 1)
    return planes.transpose(0, 1)


def test_the_kernel_is_that_of_the_six_layers(image):
    torch.manual_seed(0)
    generator = Generator()
    crop = image[None, :, :CROP, :CROP]
    halved = halve(crop, generator())
    assert generator().shape == (KERNEL_SIDE, KERNEL_SIDE) == (13, 13) and halved.shape == (1, 3, HALVED, HALVED)
    torch.testing.assert_close(halved, six_layers(generator, crop), rtol=1e-4, atol=1e-9)


def test_the_discriminator_sees_patches_of_7_px_and_each_image_alone(image):
    torch.manual_seed(0)
    discriminator = Discriminator().eval()  # in training, spectral normalization changes with each call
    two = torch.stack([image[:, :HALVED, :HALVED], image[:, 30 : 30 + HALVED, 30 : 30 + HALVED]])
    scores = discriminator(two)
    assert scores.shape == (2, (HALVED - 6) ** 2) and scores.min() > 0 and scores.max() < 1
    torch.testing.assert_close(discriminator(two[1:])[0], scores[1])
    batch_norm = [torch.nn.BatchNorm2d(64) for _ in discriminator.hidden]
    features = discriminator.first(two[:1])
    for layer, norm in zip(discriminator.hidden, batch_norm, strict=True):
        features = F.relu(norm(F.conv2d(features, layer.weight[..., None, None])))
    expected = torch.sigmoid(F.conv2d(features, discriminator.last.weight[..., None, None], discriminator.last.bias))
    torch.testing.assert_close(scores[:1], expected.flatten(1), rtol=1e-4, atol=1e-5)


def test_training_is_the_game_written_out(image, monkeypatch):
    """Two optimizers, three passes through the discriminator, and the six layers give the same kernel."""
    monkeypatch.setattr(kernel_gan, "WARM_UP", 2)
    steps, seed = 4, 5
    found = estimate_kernel(image, steps, seed)
    torch.manual_seed(seed)
    generator, discriminator = Generator(), Discriminator()
    optimizers = [torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (generator, discriminator)]
    gradients = torch.stack(torch.gradient(image.mean(dim=0))).norm(dim=0)
    corners = [kernel_gan._corners(gradients, side, steps) for side in (CROP, HALVED)]
    for step, ((top, left), (y, x)) in enumerate(zip(*corners, strict=True)):
        crop = 2 * image[None, :, top : top + CROP, left : left + CROP] - 1
        native = 2 * image[None, :, y : y + HALVED, x : x + HALVED] - 1
        state = [buffer.clone() for buffer in discriminator.buffers()]
        halved, kernel = six_layers(generator, crop), generator()
        loss = (discriminator(halved) - 1).abs().mean() + kernel_gan._penalty(kernel, step >= 2)
        if step < 2:
            small = F.interpolate(crop, size=(32, 32), mode="bicubic", antialias=True)
            loss = loss + 5 * ((halved - small[..., 3:29, 3:29]) ** 2).mean()
        of_generator = torch.autograd.grad(loss, list(generator.parameters()))
        losses = []
        for one, target in ((native, 1), (halved.detach(), 0)):
            for buffer, before in zip(discriminator.buffers(), state, strict=True):
                buffer.data.copy_(before)  # one power iteration of spectral normalization per step
            losses.append((discriminator(one) - target).abs().mean() / 2)
        of_discriminator = torch.autograd.grad(sum(losses), list(discriminator.parameters()))
        for optimizer, grads in zip(optimizers, (of_generator, of_discriminator), strict=True):
            for parameter, grad in zip(optimizer.param_groups[0]["params"], grads, strict=True):
                parameter.grad = grad
            optimizer.step()
    torch.testing.assert_close(found, generator().detach(), rtol=2e-3, atol=1e-6)


def test_the_seed_decides_and_nothing_else(image):
    torch.manual_seed(1)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    kernel = estimate_kernel(image, 3, 7)
    assert torch.equal(torch.get_rng_state(), before) and torch.get_num_threads() == threads
    torch.manual_seed(2)
    assert torch.equal(estimate_kernel(image, 3, 7), kernel)
    assert not torch.equal(estimate_kernel(image, 3, 8), kernel)


def test_crops_are_drawn_where_gradients_are():
    gradients = torch.zeros(100, 200)
    gradients[:, 180:] = 1
    torch.manual_seed(0)
    corners = torch.tensor(kernel_gan._corners(gradients, CROP, 500))
    assert corners[:, 1].min() > 180 - CROP and corners.max(dim=0).values.tolist() == [100 - CROP, 200 - CROP]


@pytest.mark.parametrize(
    ("image", "message"),
    [(torch.rand(3, 63, 90), "90x63 px, smaller than a crop of 64 px"), (torch.full((3, 64, 64), 0.3), "single color")],
)
def test_images_without_a_kernel(image, message):
    with pytest.raises(NoKernel, match=message):
        estimate_kernel(image, 1, 0)


@pytest.mark.slow
def test_a_planted_anisotropic_gaussian_is_recovered():
    offsets = torch.arange(KERNEL_SIDE) - CENTER
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    along, across = x * math.cos(0.6) + y * math.sin(0.6), y * math.cos(0.6) - x * math.sin(0.6)
    planted = torch.exp(-((along / 2.5) ** 2) / 2 - (across / 1.2) ** 2 / 2)
    planted = planted / planted.sum()
    sharp = torch.from_numpy(skimage.data.astronaut()).permute(2, 0, 1)[None].float() / 255
    image = (halve(sharp, planted)[0] * 255).round() / 255
    learned = estimate_kernel(image, 1000, 0)
    correlation = torch.corrcoef(torch.stack([learned.flatten(), planted.flatten()]))[0, 1]
    assert correlation > 0.9
    torch.testing.assert_close(center_of(learned / learned.sum()), torch.full((2,), CENTER), rtol=0, atol=0.2)
    found, expected = shape_of(finished_kernel(learned, 2)), shape_of(planted)
    assert abs(found.degrees - expected.degrees) < 20 and found.wide > 1.25 * found.narrow
