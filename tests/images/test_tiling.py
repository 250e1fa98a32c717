"""Tiles against the whole picture at once."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ddpm_pairs.images.tiling import restore_picture, tile_starts
from ddpm_pairs.restoration.networks.rrdb import RRDBNet


class Local(nn.Module):
    """Each output pixel depends on 5x5 input pixels; zeros beyond the border, as convolutions have them."""

    multiple, side = 1, None

    def __init__(self, scale=2):
        super().__init__()
        self.scale, self.sizes = scale, []
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 3 * scale**2, 5, padding=2)

    def forward(self, lq):
        self.sizes.append(tuple(lq.shape[2:]))
        return F.pixel_shuffle(self.conv(lq), self.scale)


@pytest.fixture
def photo(photos):
    return torch.from_numpy(np.ascontiguousarray(photos[1].transpose(2, 0, 1))).float() / 255


@pytest.mark.parametrize(
    ("length", "side", "overlap", "starts"),
    [(10, 10, 2, [0]), (7, 10, 2, [0]), (11, 10, 2, [0, 1]), (26, 10, 2, [0, 8, 16]), (27, 10, 2, [0, 8, 16, 17])],
)
def test_starts(length, side, overlap, starts):
    assert tile_starts(length, side, overlap) == starts


@pytest.mark.parametrize(("tile", "overlap"), [(24, 8), (40, 9), (33, 24)])
def test_enough_overlap_makes_no_difference(photo, tile, overlap):
    # The outer quarter of the overlap, 2 px, is all that a tile of this network gets wrong.
    net = Local()
    whole = restore_picture(net, photo)
    assert whole.shape == (3, 192, 256)
    torch.testing.assert_close(restore_picture(net, photo, tile, overlap), whole, atol=1e-5, rtol=0)
    assert set(net.sizes[1:]) == {(tile, tile)}


def test_without_overlap_seams_show(photo):
    net = Local()
    difference = (restore_picture(net, photo, 24, 0) - restore_picture(net, photo)).abs().amax(0)
    assert difference[:, 40:56].max() > 0.01
    assert difference[10:38, 10:38].max() < 1e-5


def test_tile_larger_than_one_side_only(photo):
    net = Local()
    whole = restore_picture(net, photo)
    torch.testing.assert_close(restore_picture(net, photo, 100, 10), whole, atol=1e-5, rtol=0)
    assert net.sizes[1:] == [(96, 100), (96, 100)]
    restore_picture(net, photo, 128, 10)
    assert net.sizes[-1] == (96, 128)


@pytest.mark.parametrize(("scale", "multiple"), [(1, 4), (2, 2), (4, 1)])
@pytest.mark.parametrize("size", [(13, 18), (1, 1), (2, 9)])
def test_any_size_keeps_its_size(scale, multiple, size):
    torch.manual_seed(0)
    net = RRDBNet(scale, nf=4, nb=1, gc=4).eval()
    lq = torch.rand(3, *size)
    restored = restore_picture(net, lq)
    assert restored.shape == (3, size[0] * scale, size[1] * scale)
    below, right = -size[0] % multiple, -size[1] % multiple
    mirrored = torch.from_numpy(np.pad(lq.numpy(), ((0, 0), (0, below), (0, right)), mode="reflect"))
    with torch.no_grad():
        expected = net(mirrored[None])[0, :, : restored.shape[1], : restored.shape[2]]
    torch.testing.assert_close(restored, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [1, 2])
def test_tiles_of_a_network_with_a_multiple(scale):
    torch.manual_seed(0)
    net = RRDBNet(scale, nf=4, nb=1, gc=4).eval()
    lq = torch.rand(3, 45, 61)
    restored, whole = restore_picture(net, lq, 30, 15), restore_picture(net, lq)
    assert restored.shape == whole.shape
    assert (restored - whole).abs().mean() < 1 / 255


@pytest.mark.slow
def test_trained_rrdb_in_tiles(photo):
    """Briefly trained, so that what it does depends on what lies around a pixel."""
    torch.manual_seed(0)
    net = RRDBNet(4, nf=16, nb=2, gc=8)
    untrained = copy.deepcopy(net)
    hq = torch.stack([photo[:, 16:64, i : i + 48] for i in (0, 32, 64)])
    lq = F.interpolate(hq, scale_factor=0.25, mode="bicubic", antialias=True)
    optimizer = torch.optim.Adam(net.parameters(), 4e-3)
    for _ in range(40):
        loss = (net(lq) - hq).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5 * (untrained(lq) - hq).abs().mean()
    picture = F.interpolate(photo[None], size=(48, 64), mode="bilinear")[0]
    difference = (restore_picture(net, picture, 36, 16) - restore_picture(net, picture)).abs()
    assert difference.mean() < 0.1 / 255
    assert difference.max() < 4 / 255


def test_wrong_arguments(photo):
    with pytest.raises(ValueError, match="got tile 8 and overlap 8; expected"):
        restore_picture(Local(), photo, 8, 8)
    net = Local()
    net.side = 64
    with pytest.raises(ValueError, match="got an image of 128x96 px; expected 64x64 px"):
        restore_picture(net, photo, None)
    assert restore_picture(net, photo[:, :64, :64], 16).shape == (3, 128, 128)
    assert net.sizes == [(64, 64)]
