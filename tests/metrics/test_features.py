import os
import pickle

import numpy as np
import pytest
import torch

from ddpm_pairs.metrics.features import LAYERS, Inception, RandomFeatures, extract
from ddpm_pairs.metrics.set_scores import frechet_distance
from ddpm_pairs.metrics.weights import ALEXNET, INCEPTION, weights_path

needs_weights = pytest.mark.skipif(
    not os.environ.get("DDPM_PAIRS_WEIGHTS"), reason="$DDPM_PAIRS_WEIGHTS is not set: no real metric weights"
)


def batches(photos):
    pictures = torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2)
    return [pictures[:3], pictures[3:]]


def test_random_features_do_not_depend_on_the_batch(photos):
    found = extract(RandomFeatures(), batches(photos))
    together = extract(RandomFeatures(), [torch.cat(batches(photos))])
    assert set(found) == set(LAYERS)
    assert {name: tuple(values.shape) for name, values in found.items()} == {"fid": (4, 32), "fid192": (4, 16)}
    for name in LAYERS:
        assert torch.allclose(found[name], together[name], atol=1e-5)


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_file_that_holds_more_than_tensors_is_refused_unrun(tmp_path):
    (tmp_path / "bomb.pth").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded"), protocol=2))
    with pytest.raises(ValueError, match="expected weights of FID's Inception"):
        Inception(tmp_path / "bomb.pth")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.slow
@needs_weights
def test_real_inception_gives_the_published_layers(photos):
    network = Inception(weights_path(INCEPTION))
    found = extract(network, batches(photos))
    assert {name: values.shape[1] for name, values in found.items()} == {"fid": 2048, "fid192": 192}
    assert abs(frechet_distance(found["fid"], found["fid"])) < 1e-2
    assert network.identity.startswith("inception-")
    with pytest.raises(ValueError, match="expected weights of FID's Inception"):
        Inception(weights_path(ALEXNET))
