from dataclasses import replace
from hashlib import sha256

import pytest

from ddpm_pairs.metrics.weights import ALEXNET, INCEPTION, MissingWeightsError, find_weights, weights_path


@pytest.fixture
def folders(tmp_path, monkeypatch):
    own, cache = tmp_path / "own", tmp_path / "torch" / "hub" / "checkpoints"
    own.mkdir()
    cache.mkdir(parents=True)
    monkeypatch.setenv("DDPM_PAIRS_WEIGHTS", str(own))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return own, cache


def test_own_folder_comes_before_torch_hubs_cache(folders):
    own, cache = folders
    assert find_weights(ALEXNET) is None
    in_cache = cache / "alexnet_features.pth"
    in_cache.touch()
    assert find_weights(ALEXNET) == weights_path(ALEXNET) == in_cache
    in_own = own / "alexnet-owt-7be5be79.pth"
    in_own.touch()
    assert find_weights(ALEXNET) == in_own
    assert find_weights(INCEPTION) is None


def test_without_any_folder_set_torch_hubs_own_place_is_searched(monkeypatch, tmp_path):
    for name in ("DDPM_PAIRS_WEIGHTS", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    place = tmp_path / "torch" / "hub" / "checkpoints" / "alexnet_features.pth"
    place.parent.mkdir(parents=True)
    place.touch()
    assert find_weights(ALEXNET) == place


def published(tmp_path, content, digits):
    """A network whose weights are published under a file URL."""
    source = tmp_path / f"weights-{digits}.pth"
    source.write_bytes(content)
    return replace(ALEXNET, patterns=(source.name,), url=source.as_uri())


def test_download_lands_in_torch_hubs_cache(folders, tmp_path, capsys):
    file = published(tmp_path, b"weights", sha256(b"weights").hexdigest()[:8])
    path = weights_path(file)
    assert path.parent == folders[1]
    assert path.read_bytes() == b"weights"


@pytest.mark.parametrize("fault", ["other bytes", "no page"])
def test_missing_weights_say_what_to_do(folders, tmp_path, fault, capsys):
    file = published(tmp_path, b"weights", "00000000")
    if fault == "no page":
        (tmp_path / "weights-00000000.pth").unlink()
    with pytest.raises(MissingWeightsError, match="AlexNet") as caught:
        weights_path(file)
    text = str(caught.value)
    assert "\n" not in text
    places = ("$DDPM_PAIRS_WEIGHTS", str(folders[1]))
    for part in (file.url, "weights-00000000.pth", *places, "remove lpips from the metrics"):
        assert part in text
    assert list(folders[1].iterdir()) == []
