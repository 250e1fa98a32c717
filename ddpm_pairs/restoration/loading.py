"""Restorers from disk: the weights say which network they belong to."""

import copy
import re
from pathlib import Path

from torch import Tensor, nn

from ddpm_pairs.errors import UserError
from ddpm_pairs.restoration.networks.rrdb import UNSHUFFLE, RRDBNet
from ddpm_pairs.restoration.weight_files import EXPECTED, looks_like, read_weights

_ENDS = {
    "RRDB_trunk": {"trunk_conv": "conv_body", "upconv1": "conv_up1", "upconv2": "conv_up2", "HRconv": "conv_hr"},
    "model": {"0": "conv_first", "3": "conv_up1", "6": "conv_up2", "8": "conv_hr", "10": "conv_last"},
}
"""Official names of the layers around the blocks, by those of the two earlier ESRGANs."""

_GPENS = {"ecd0.0.0.weight", "generator.input.input", "generator.to_rgb1.conv.weight"}
"""Weights by which a GPEN is known, and its sizes."""

_WIDTH_TIMES_SIDE = 16384
"""GPEN's encoder has 16384 m narrow / r channels at r px, for r of 64 and more."""


class _MisfitError(UserError):
    """Weights of a known kind of network that cannot be built; the message goes on after "looks like"."""


def load_restorer(path: str | Path, config_net: nn.Module | None = None) -> nn.Module:
    """Load a restoration network; its kind and sizes come from the weights' names and shapes.

    RRDBNet is taken under the names of Real-ESRGAN, of "new" ESRGAN (BSRGAN, KAIR) and of "old" ESRGAN; GPEN under its
    released ones. Of wrapped weights the moving average is preferred.

    Args:
        path: A ``.ckpt``, ``.safetensors`` or ``.pth`` file.
        config_net: Filled, in a copy, by weights of any other network.

    Returns:
        The network in eval mode, float32, on the CPU.

    Raises:
        UserError: in one line, if the file is missing, unreadable, or holds no restorer; it says what it looks like.
    """
    weights = read_weights(path)
    if weights.kind not in (None, "restorer"):
        raise UserError(f"checkpoint {path} looks like {looks_like(weights)}: {EXPECTED}")
    tensors = weights.tensors
    try:
        if (rrdb := official_rrdb_names(tensors)) is not None:
            net, tensors, known = _rrdb(rrdb), rrdb, True
        elif tensors.keys() >= _GPENS:
            net, known = _gpen(tensors), True
            own = net.state_dict().keys()
            tensors = {name: value for name, value in tensors.items() if name in own or not name.endswith(".kernel")}
        else:
            net, known = copy.deepcopy(config_net), False
    except _MisfitError as error:
        raise UserError(f"checkpoint {path} looks like {error}") from None
    if net is None:
        raise UserError(f"checkpoint {path} looks like {looks_like(weights)}: {EXPECTED}")
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        name, first = type(net).__name__, _first_misfit(error)
        looks = f"damaged weights of {name}" if known else looks_like(weights)
        wanted = "give the whole file" if known else f"expected RRDB, GPEN or the config's {name}"
        raise UserError(f"checkpoint {path} looks like {looks} ({first}): {wanted}") from None
    return net.float().eval()


def official_rrdb_names(tensors: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """An RRDBNet's weights under Real-ESRGAN's names; ``None`` where they are not an RRDBNet's.

    Raises:
        UserError: for relatives of it that have another structure.
    """
    if "body.0.rdb1.conv1.weight" in tensors:
        return tensors
    trunk = next((word for word in _ENDS if any(_block(word, name) for name in tensors)), None)
    if trunk is None:
        return None
    renamed = {}
    for name, value in tensors.items():
        found = _block(trunk, name)
        if found:
            block, dense, conv, kind = found.groups()
            renamed[f"body.{block}.rdb{dense}.conv{conv}.{kind}"] = value
            continue
        layer, _, kind = name.removeprefix("model.").rpartition(".") if trunk == "model" else name.rpartition(".")
        if re.fullmatch(r"1\.sub\.\d+", layer):
            layer = "conv_body"
        renamed[f"{_ENDS[trunk].get(layer, layer)}.{kind}"] = value
    if any("conv1x1" in name for name in tensors):
        raise _MisfitError("ESRGAN+, which has further convolutions: expected ESRGAN, Real-ESRGAN or BSRGAN x4")
    return renamed


def _block(trunk: str, name: str) -> re.Match[str] | None:
    """Numbers of block, dense block and convolution, and weight or bias, in a name of the earlier dialects."""
    start, end = (r"RRDB_trunk\.", "") if trunk == "RRDB_trunk" else (r"model\.1\.sub\.", r"\.0")
    return re.fullmatch(rf"{start}(\d+)\.RDB([123])\.conv([1-5]){end}\.(weight|bias)", name)


def _rrdb(tensors: dict[str, Tensor]) -> RRDBNet:
    """An unfilled RRDBNet of the weights' sizes."""
    # numbers alone are layers of an old ESRGAN that lie elsewhere than in one with two
    after = {
        name.split(".")[0] for name in tensors if re.match(r"conv_up\d|upconv\d|conv_hr\.|conv_last\.|\d+\.", name)
    }
    if len(after) != 4:
        raise _MisfitError(
            f"an ESRGAN whose up-convolutions number {len(after) - 2}, such as BSRGAN's x2, which has one: "
            "expected Real-ESRGAN's structure, with two at x1, x2 and x4 alike"
        )
    if not {"conv_first.weight", "conv_last.weight"} <= tensors.keys():
        raise _MisfitError("a part of an RRDBNet, without its ends: give the whole file")
    first, last = tensors["conv_first.weight"], tensors["conv_last.weight"]
    scales = {3 * multiple**2: scale for scale, multiple in UNSHUFFLE.items()}
    if first.shape[1] not in scales or last.shape[0] != 3:
        raise _MisfitError(
            "RRDBNet for other than RGB pictures: expected 3 channels, or 12 or 48 after a pixel-unshuffle"
        )
    blocks = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("body."))
    growth = tensors["body.0.rdb1.conv1.weight"].shape[0]
    return RRDBNet(scales[first.shape[1]], nf=first.shape[0], nb=blocks, gc=growth)


def _gpen(tensors: dict[str, Tensor]) -> nn.Module:
    """An unfilled GPEN of the weights' sizes."""
    from ddpm_pairs.restoration.networks.gpen import GPEN

    stages = len({name.split(".")[0] for name in tensors if name.startswith("ecd")})
    size = 2 ** (stages + 1)
    smallest = tensors["generator.input.input"].shape[1]
    narrow = smallest / 512
    width = tensors["ecd0.0.0.weight"].shape[0]
    # up to 32 px the multiplier plays no part
    multiplier = max(1, round(width * size / (_WIDTH_TIMES_SIDE * narrow))) if size >= 64 else 2
    isconcat = tensors["generator.to_rgb1.conv.weight"].shape[2] == 2 * smallest
    arguments = {"size": size, "channel_multiplier": multiplier, "narrow": narrow, "isconcat": isconcat}
    net = GPEN(**arguments)
    net.init_args = arguments
    return net


def _first_misfit(error: Exception) -> str:
    """The first thing that torch found wrong, without the list of all weights."""
    return " ".join(str(error).split("\n\t")[1].split())[:120].rstrip(". ")
