"""Learned degradations: their files, and what every one of them shares."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from ddpm_pairs.degradations import Learned, Walk, by_name
from ddpm_pairs.degradations.base import degrade, spec_of
from ddpm_pairs.degradations.by_name import build, label_of
from ddpm_pairs.degradations.learned.files import content_sha256, describe, load_synthesizer, save_synthesizer
from ddpm_pairs.degradations.learned.synthesizer import Synthesizer
from ddpm_pairs.errors import UserError
from ddpm_pairs.synthesis.provenance import _comparable
from ddpm_pairs.trust import trust_classes


class Gain(Synthesizer):
    """Average blocks of HQ pixels and multiply them with a learned gain and a drawn one."""

    name = "gain"

    def __init__(self, scale: int = 2, channels: int = 3) -> None:
        super().__init__(scale, {"scale": scale, "channels": channels})
        self.gain = torch.nn.Parameter(torch.full((channels, 1, 1), 0.5))

    def draw(self, generator):
        return {"strength": float(torch.rand((), generator=generator))}

    def synthesize(self, hq, parameters):
        return torch.nn.functional.avg_pool2d(hq, self.scale) * self.gain * parameters["strength"]


@pytest.fixture
def saved(tmp_path, monkeypatch):
    monkeypatch.setattr("ddpm_pairs.trust._trusted", set())
    trust_classes(Gain)
    net = Gain()
    with torch.no_grad():
        net.gain.copy_(torch.tensor([0.25, 0.5, 1.0])[:, None, None])
    path = tmp_path / "gain.safetensors"
    save_synthesizer(net, path, {"steps": 7})
    return path


def test_a_file_gives_the_degradation_with_its_weights_and_training(saved):
    degradation = by_name(str(saved))
    assert (degradation.name, degradation.scale, degradation.multiple) == ("gain", 2, 2)
    assert degradation.training == {"steps": 7}
    hq = torch.full((1, 3, 32, 32), 0.8)
    lq = degradation.apply(hq, [{"strength": 0.5}])
    expected = torch.tensor([0.8 * 0.5 * gain for gain in (0.25, 0.5, 1.0)]).mul(255).round().div(255)
    assert torch.equal(lq[0, :, 0, 0], expected) and lq.shape == (1, 3, 16, 16)


def test_a_checkpoint_equals_its_export(saved, tmp_path):
    weights = load_file(saved)
    checkpoint = tmp_path / "last.ckpt"
    state = {f"net.{name}": value for name, value in weights.items()} | {"discriminator.x": torch.zeros(1)}
    torch.save({"state_dict": state, "ddpm_pairs": describe(Gain())}, checkpoint)
    from_checkpoint, from_export = by_name(str(checkpoint)), by_name(str(saved))
    assert spec_of(from_checkpoint)["weights_sha256"] == spec_of(from_export)["weights_sha256"]
    hq = torch.rand(2, 3, 32, 32)
    assert torch.equal(degrade(from_checkpoint, hq, 3), degrade(from_export, hq, 3))
    assert label_of(str(checkpoint), from_checkpoint) == "gain" and label_of(str(saved), from_export) == "gain"


def test_images_do_not_depend_on_each_other(saved):
    degradation, hq = by_name(str(saved)), torch.rand(5, 3, 32, 32)
    drawn = [{"strength": 0.1 * n + 0.5} for n in range(5)]
    together = degradation.apply(hq, drawn)
    assert torch.equal(degradation.apply(hq[3:4], drawn[3:4])[0], together[3])


def test_a_description_builds_it_again_and_other_weights_are_refused(saved):
    spec = json.loads(json.dumps(spec_of(by_name(str(saved)))))
    assert spec_of(build(spec)) == spec
    other = Gain()
    save_synthesizer(other, saved, {})
    assert content_sha256(other) != spec["weights_sha256"]
    with pytest.raises(UserError, match=f"expected {spec['weights_sha256'][:12]}"):
        build(spec)


def test_the_hash_depends_on_arguments_class_and_weights():
    assert content_sha256(Gain()) == content_sha256(Gain()) != content_sha256(Gain(scale=4))


def test_a_learned_degradation_starts_a_walk(saved):
    walk = Walk(str(saved), "blind_camera", (10, 20))
    assert walk.scale == 2 and spec_of(walk)["init_args"]["start"]["name"] == "gain"
    assert walk.draw(torch.Generator().manual_seed(0))["start"]["name"] == "gain"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "ddpm"}, "contains a ddpm"),
        ({"net": {"class_path": "torch.nn.Linear", "init_args": {}}}, "names the class torch.nn.Linear"),
        ({"net": {"class_path": "ddpm_pairs.degradations.Bicubic"}}, "not a Synthesizer"),
        ({"net": 3}, "unusable description"),
        ({"net": {"class_path": f"{__name__}.Gain", "init_args": {"channels": 10**12}}}, "cannot be built"),
        ({"net": {"class_path": f"{__name__}.Gain", "init_args": {"channels": 4}}}, "do not fit"),
        ({"net": {"class_path": f"{__name__}.Gain", "init_args": {"width": 4}}}, "cannot be built"),
    ],
)
def test_a_foreign_file_is_refused_in_words(saved, change, message):
    description = {**describe(Gain()), **change}
    save_file(load_file(saved), saved, {"ddpm_pairs": json.dumps(description)})
    with pytest.raises(UserError, match=message):
        load_synthesizer(saved)


def test_a_class_of_your_own_must_be_trusted(saved, monkeypatch):
    monkeypatch.setattr("ddpm_pairs.trust._trusted", set())
    with pytest.raises(UserError, match="trust_classes"):
        Learned(str(saved))


def test_only_paths_of_hashed_weights_may_differ_when_a_folder_is_resumed():
    def settings(name, path, sha="a"):
        learned = {"class_path": "x.Learned", "init_args": {"weights": path}, "weights_sha256": sha}
        return {
            "degradation": {"class_path": "x.Own", "init_args": {"weights": [1, 2], "start": learned, "name": name}}
        }

    before = _comparable(settings("one", "here"))
    assert before == _comparable(settings("one", "there"))
    assert before != _comparable(settings("one", "here", "b"))
    other = settings("one", "here")
    other["degradation"]["init_args"]["weights"] = [2, 1]  # of a class of your own, these are no path
    assert before != _comparable(other)
