"""What a user may type for a degradation, and what is said where it is none."""

import sys

import pytest
import torch
import yaml
from safetensors.torch import save_file
from tiny_ddpm import save_ckpt, save_safetensors, tiny_denoiser

from ddpm_pairs.degradations import (
    BSRGAN,
    Bicubic,
    Blur,
    Chain,
    ClassicalFaces,
    Noise,
    OnHQGrid,
    RealESRGAN,
    Walk,
    by_name,
    degrade,
)
from ddpm_pairs.degradations.base import spec_of
from ddpm_pairs.degradations.by_name import NAMES, label_of
from ddpm_pairs.errors import UserError

OWN = """
class Mist:
    name = "mist"

    def __init__(self, most=0.5, scale=4):
        self.scale, self.most = scale, int(most * 8)

    def draw(self, generator):
        return {}

    def apply(self, hq, parameters):
        return hq[..., :: self.scale, :: self.scale]


class Needy(Mist):
    def __init__(self, needed):
        super().__init__()


class Broken(Mist):
    def __init__(self):
        int("x")


class Mistaken(Mist):
    def __init__(self):
        len(3)


class Nameless:
    scale = 4
    draw = apply = None
"""

BLUR = {"class_path": "ddpm_pairs.degradations.Blur", "init_args": {"sigma": [1.0, 2.0]}}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    (tmp_path / "own_named.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_named", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name, content):
    with open(name, "w") as file:  # noqa: PTH123 - in the working directory
        yaml.safe_dump(content, file)
    return name


AT_SCALE_1 = ("classical_faces", "gaussian_noise")


@pytest.mark.parametrize("name", NAMES)
def test_names(name):
    assert type(by_name(name)) is NAMES[name]
    assert by_name(name).scale == (1 if name in AT_SCALE_1 else 4)
    if name not in AT_SCALE_1:
        assert by_name(name, 2).scale == 2


def test_objects_are_taken_as_they_are():
    model = RealESRGAN(2)
    assert by_name(model) is model and by_name(model, 2) is model


def test_class_paths():
    assert by_name("own_named.Mist").most == 4
    assert by_name("own_named.Mist", 2).scale == 2
    given = by_name({"class_path": "own_named.Mist", "init_args": {"most": 0.25}}, 1)
    assert (given.most, given.scale) == (2, 1)
    # attributes may differ from the arguments, which are what is recorded
    assert spec_of(given) == {"name": "mist", "class_path": "own_named.Mist", "init_args": {"most": 0.25, "scale": 1}}
    assert type(by_name("ddpm_pairs.degradations.ClassicalFaces")) is ClassicalFaces
    nested = {"class_path": "ddpm_pairs.degradations.OnHQGrid", "init_args": {"degradation": "bsrgan", "factor": 2}}
    assert type(by_name(nested).degradation) is BSRGAN and by_name(nested).degradation.scale == 2


@pytest.mark.parametrize(
    "content",
    [
        {"class_path": "ddpm_pairs.degradations.Chain", "init_args": {"operations": [BLUR], "scale": 2}},
        {"model": {"degradation": {"class_path": "ddpm_pairs.degradations.Chain", "init_args": {"operations": [BLUR]}}, "scale": 2}},  # noqa: E501
        {"model": {"class_path": "x.Y", "init_args": {"degradation": [BLUR], "scale": 2}}},
        {"model": {"init_args": {"degradation": {"class_path": "ddpm_pairs.degradations.Chain", "init_args": {"operations": [BLUR], "scale": 2}}}}},  # noqa: E501
    ],
)  # fmt: skip
def test_yaml_files(content):
    chain = by_name(write("my_chain.yaml", content))
    assert type(chain) is Chain and chain.scale == 2 and type(chain.operations[0]) is Blur
    assert chain.operations[0].sigma == (1.0, 2.0)
    assert label_of("runs/my_chain.yaml", chain) == "my_chain"


def test_a_list_of_operations_takes_the_scale_that_is_typed():
    name = write("steps.yaml", [BLUR, {"class_path": "ddpm_pairs.degradations.Noise"}])
    assert by_name(name).scale == 4 and by_name(name, 2).scale == 2
    assert [type(one) for one in by_name(name).operations] == [Blur, Noise]


def test_shipped_configs():
    assert type(by_name("pairs_natural.yaml")) is Bicubic
    assert type(by_name("pairs.yaml")) is OnHQGrid
    assert by_name("pairs_own_chain.yaml").scale == 4


def test_weights_describe_themselves(place):
    path = save_safetensors(tiny_denoiser(), place / "tiny.safetensors")
    walk = by_name(path)
    assert type(walk) is Walk and type(walk.start) is Bicubic and walk.t == (50, 60)
    assert walk.denoiser.source == path and label_of(path, walk) == "tiny"
    path = save_ckpt(tiny_denoiser(), place / "last.ckpt")
    walk = by_name(path)
    assert walk.denoiser.source == str(path) and walk.t == (50, 60) and label_of(path, walk) == "walk"
    assert by_name("blind_camera").t == (50, 150) and label_of("blind_camera", walk) == "blind_camera"


def test_labels():
    assert label_of("bsrgan", by_name("bsrgan")) == "bsrgan"
    assert label_of("own_named.Mist", by_name("own_named.Mist")) == label_of(None, by_name("own_named.Mist")) == "mist"
    assert label_of(None, OnHQGrid("bsrgan")) == "on_hq_grid-bsrgan"


@pytest.mark.parametrize(
    ("asked", "scale", "said"),
    [
        (
            "blurr",
            None,
            "degradation: got 'blurr'; expected one of bicubic, .*, a class path, a YAML file or a file of weights",
        ),
        ("own_named.Fog", None, "own_named.Fog cannot be imported"),
        ("nowhere.Fog", None, "nowhere.Fog cannot be imported"),
        ("own_named.Nameless", None, "degradation Nameless has no `name`; expected name, scale, draw and apply"),
        ("own_named.Needy", None, "'needed'.*; set its arguments in a config"),
        ("collections.OrderedDict", None, "collections.OrderedDict is not a degradation"),
        ("nowhere.yaml", None, "nowhere.yaml does not exist"),
        (
            "ddpm.yaml",
            None,
            "ddpm.yaml describes no degradation; expected class_path and init_args, a list of operations",
        ),
        ("empty.yaml", None, "empty.yaml describes no degradation"),
        ("torn.yaml", None, "torn.yaml is not a YAML file"),
        ("nowhere.safetensors", None, "nowhere.safetensors does not exist"),
        ("plain.ckpt", None, "plain.ckpt contains weights without a description; expected the weights of a DDPM or"),
        ("torn.safetensors", None, "torn.safetensors is not a safetensors file"),
        ("foreign.safetensors", None, "foreign.safetensors contains weights without a description"),
        ("rrdb.safetensors", None, "rrdb.safetensors contains a rrdb; expected .* of a learned degradation: a .ckpt"),
        (Bicubic(2), 4, "scale: got 4; expected 2, the scale of degradation bicubic; leave scale out"),
        ("bsrgan", 3, "bsrgan scale: got 3"),
        (object(), None, "degradation object has no `name`"),
        ({"init_args": {}}, None, "degradation: got .*; expected class_path and init_args"),
    ],
)
def test_errors_are_one_line(place, asked, scale, said):
    (place / "empty.yaml").write_text("")
    (place / "torn.yaml").write_text("[")
    (place / "torn.safetensors").write_text("x")
    save_file({"a": torch.zeros(1)}, "foreign.safetensors")
    save_file({"a": torch.zeros(1)}, "rrdb.safetensors", {"ddpm_pairs": '{"kind": "rrdb"}'})
    torch.save({"state_dict": {"net.a": torch.zeros(1)}}, "plain.ckpt")
    with pytest.raises(ValueError, match=said) as caught:
        by_name(asked, scale)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "kind"), [("Broken", ValueError), ("Mistaken", TypeError)])
def test_bugs_of_a_class_keep_their_kind(name, kind):
    with pytest.raises(kind) as caught:
        by_name(f"own_named.{name}")
    assert type(caught.value) is kind


@pytest.mark.parametrize("text", ["raise ValueError('bug')", "def broken(:"])
def test_bugs_of_a_module_keep_their_kind(place, text):
    (place / "buggy_module.py").write_text(text)
    with pytest.raises((ValueError, SyntaxError)) as caught:
        by_name("buggy_module.Own")
    assert not isinstance(caught.value, UserError)


def test_classes_that_keep_no_attributes(place):
    (place / "narrow.py").write_text(
        """
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Frozen:
    lut: str = "a"
    name = "frozen"
    scale = 4

    def draw(self, generator):
        return {}

    def apply(self, hq, parameters):
        return hq[..., ::4, ::4].float()


class Slots:
    __slots__ = ("lut",)
    name = "slots"
    scale = 4

    def __init__(self, lut="a"):
        self.lut = Path(lut)

    draw, apply = Frozen.draw, Frozen.apply
"""
    )
    for name in ("Frozen", "Slots"):
        built = by_name({"class_path": f"narrow.{name}", "init_args": {"lut": "b"}})
        assert str(built.lut) == "b"
        assert spec_of(built)["init_args"] == ({"lut": "b"} if name == "Frozen" else {})


OURS = "ddpm_pairs.degradations."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"class_path: {OURS}OnHQGrid\ninit_args: {{degradation: x.yaml}}\n", "x.yaml refers to itself"),
        ("model: {degradation: x.yaml}\n", "x.yaml refers to itself"),
        (f"- class_path: {OURS}Blur\n  init_args: [1]\n", r"Blur: got init_args \[1\]; expected a mapping"),
        (f"- class_path: {OURS}Jpeg\n  init_args: {{quality: 50}}\n", "Jpeg.quality: got '50'"),
        (f"- class_path: {OURS}Jpeg\n  init_args: {{quality: [a, b]}}\n", "Jpeg.quality: got"),
        (f"- class_path: {OURS}Blur\n  init_args: {{sides: [1000000001]}}\n", "odd numbers up to 1001"),
        (f"- class_path: {OURS}Resize\n  init_args: {{factor: [1.0e+9, 1.0e+9]}}\n", "<= 16"),
        (f"- class_path: {OURS}Blur\n  class_path: {OURS}Jpeg\n", "contains the key 'class_path' twice, at line 2"),
        ("- bicubic\n", "Chain.operations: got Bicubic; expected Blur"),
        ("- 5\n", "got 5; expected class_path and init_args"),
        ("- &a [*a]\n", "contains an alias to a value that contains it"),
        ("[" * 9999, "is not a YAML file"),
        (f"class_path: {OURS}Bicubic\ninit_args: {{scale: x}}\n", "Bicubic.scale: got 'x'"),
        (f"class_path: {OURS}Degradation\n", "is not a degradation"),
        (f"class_path: {OURS}Walk\ninit_args: {{start: bicubic, denoiser: blind_camera, t: 5}}\n", "Walk.t: got '5'"),
        (
            f"class_path: {OURS}Walk\ninit_args: {{start: bicubic, denoiser: blind_camera, tile: 0}}\n",
            "Walk.tile: got 0",
        ),
        ("secret-token\n", "describes no degradation"),
        ("class_path: " + "a." * 3000 + "b\n", "expected package.module.Class"),
    ],
)
def test_a_faulty_yaml_file_ends_in_one_line(tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        by_name("x.yaml")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert "secret-token" not in str(caught.value)


@pytest.mark.parametrize("word", ["/etc/passwd", "/dev/zero", "k" * 5000, "x\0", "", "..", "a..b"])
def test_other_words_end_in_one_line(word):
    with pytest.raises(UserError) as caught:
        by_name(word)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400 and "root:" not in str(caught.value)


class OfOwn:
    name, scale = "own", 4

    def draw(self, generator):
        return {}

    def apply(self, hq, parameters):
        return hq[..., ::4, ::4]


@pytest.mark.parametrize(
    ("name", "value"), [("scale", 0), ("scale", "4"), ("scale", None), ("multiple", 0), ("multiple", 1.5), ("name", 3)]
)
def test_members_of_an_own_class_are_checked(name, value):
    own = OfOwn()
    setattr(own, name, value)
    with pytest.raises(UserError, match=f"OfOwn: got the {name} {value!r}"):
        by_name(own)
    with pytest.raises(UserError, match=f"OfOwn: got the {name} {value!r}"):
        degrade(own, torch.rand(1, 3, 64, 64))


@pytest.mark.parametrize("hq", [torch.full((1, 3, 64, 64), float("nan")), 255 * torch.rand(1, 3, 64, 64)])
def test_hq_out_of_range_is_refused(hq):
    with pytest.raises(UserError, match="expected 0 to 1"):
        by_name("bicubic")(hq)
