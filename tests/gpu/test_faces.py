"""Samples of faces on the GPU: one degradation for a face and a natural image, and no waiting."""

import pytest
import torch
from degradation_records import crops

from ddpm_pairs.faces.draws import draw_training, finish
from ddpm_pairs.tensors import generator_for

pytestmark = pytest.mark.gpu


def test_equal_images_get_the_same_lq_and_the_host_never_waits(device, without_waiting):
    images = (crops(12, 128, 128) * 255).byte().to(device)
    draws = [draw_training(generator_for("gpu", i), (0.4, 0.25, 0.35), False) for i in range(12)]
    batch = list(images), list(images), images, draws, 128
    found = finish(*batch)
    assert torch.equal(found["face_syn_lq"], found["natural_syn_lq"])
    assert not torch.equal(found["face_syn_lq"], found["face_hq"])
    with without_waiting():
        again = finish(*batch)
    assert all(torch.equal(again[name], found[name]) for name in found)
