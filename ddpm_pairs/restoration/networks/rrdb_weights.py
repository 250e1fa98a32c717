"""Build an RRDBNet from weights with any of its three naming schemes."""

import re

from torch import Tensor

from ddpm_pairs.restoration.networks.rrdb import UNSHUFFLE, RRDBNet
from ddpm_pairs.restoration.weight_files import MisfitError

_ENDS = {
    "RRDB_trunk": {"trunk_conv": "conv_body", "upconv1": "conv_up1", "upconv2": "conv_up2", "HRconv": "conv_hr"},
    "model": {"0": "conv_first", "3": "conv_up1", "6": "conv_up2", "8": "conv_hr", "10": "conv_last"},
}
"""Official names of the layers around the blocks, by their names in "new" and "old" ESRGAN."""

_AFTER_BODY = {"conv_up1", "conv_up2", "conv_hr", "conv_last"}
"""Layers after the blocks in Real-ESRGAN's structure. Relatives differ: BSRGAN x2 has one up-convolution."""


def official_names(tensors: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Rename an RRDBNet's weights to the names that Real-ESRGAN uses.

    Args:
        tensors: Weights with the names of Real-ESRGAN, of "new" ESRGAN (BSRGAN, KAIR), or of "old" ESRGAN.

    Returns:
        The renamed weights; ``None`` if they do not have the structure of ``RRDBNet``.

    Raises:
        MisfitError: If the weights are ESRGAN+ with the names of "new" ESRGAN, which cannot be built.
    """
    renamed = _renamed(tensors)
    if renamed is None or not {"conv_first.weight", "conv_last.weight"} <= renamed.keys():
        return None
    # a bare number is a layer of an "old" ESRGAN with more or fewer up-convolutions
    layers = {
        name.split(".")[0] for name in renamed if re.match(r"conv_up\d|upconv\d|conv_hr\.|conv_last\.|\d+\.", name)
    }
    first, last = renamed["conv_first.weight"], renamed["conv_last.weight"]
    if layers != _AFTER_BODY or last.shape[0] != 3 or first.shape[1] not in _scales():
        return None
    return renamed


def build_rrdb(tensors: dict[str, Tensor]) -> RRDBNet:
    """Build an RRDBNet with random weights, in the sizes of the given weights.

    Args:
        tensors: The weights that ``official_names`` returned.
    """
    first = tensors["conv_first.weight"]
    blocks = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("body."))
    growth = tensors["body.0.rdb1.conv1.weight"].shape[0]
    return RRDBNet(_scales()[first.shape[1]], nf=first.shape[0], nb=blocks, gc=growth)


def _scales() -> dict[int, int]:
    """Return the scale by number of input channels after the pixel unshuffle."""
    return {3 * multiple**2: scale for scale, multiple in UNSHUFFLE.items()}


def _renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor] | None:
    if "body.0.rdb1.conv1.weight" in tensors:
        return tensors
    trunk = next((word for word in _ENDS if any(_block(word, name) for name in tensors)), None)
    if trunk is None:
        return None
    if any("conv1x1" in name for name in tensors):
        if trunk == "RRDB_trunk":  # spandrel would drop these convolutions
            raise MisfitError('ESRGAN+ with the names of "new" ESRGAN; expected the names of "old" ESRGAN')
        return None
    renamed = {}
    for name, value in tensors.items():
        if found := _block(trunk, name):
            block, dense, conv, kind = found.groups()
            renamed[f"body.{block}.rdb{dense}.conv{conv}.{kind}"] = value
            continue
        layer, _, kind = name.removeprefix("model.").rpartition(".") if trunk == "model" else name.rpartition(".")
        if re.fullmatch(r"1\.sub\.\d+", layer):
            layer = "conv_body"
        renamed[f"{_ENDS[trunk].get(layer, layer)}.{kind}"] = value
    return renamed


def _block(trunk: str, name: str) -> re.Match[str] | None:
    """Match a name inside the blocks: numbers of the block, dense block, and convolution; then weight or bias."""
    start, end = (r"RRDB_trunk\.", "") if trunk == "RRDB_trunk" else (r"model\.1\.sub\.", r"\.0")
    return re.fullmatch(rf"{start}(\d+)\.RDB([123])\.conv([1-5]){end}\.(weight|bias)", name)
