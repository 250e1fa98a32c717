"""Types and bounds of the values in manifest lines, ``run.yaml``, and the index of shards; checked by pydantic.

Further fields are allowed everywhere: later versions and other programs add their own.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Required

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from ddpm_pairs.bounded_yaml import read_yaml
from ddpm_pairs.errors import UserError

_OPEN = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)
_Count = Annotated[int, Field(ge=0, le=10**6)]
_Seed = Annotated[int, Field(ge=-(2**63), lt=2**64)]
_Side = Annotated[int, Field(ge=1, le=10**6)]
_Size = Annotated[list[_Side], Field(min_length=2, max_length=2)]
_Scale = Annotated[int, Field(ge=1, le=16)]
_Sampler = Literal["sde-dpmsolver++", "dpmsolver++", "ddim", "ancestral"]
_Share = Annotated[float, Field(ge=0, le=1)]


class DegradationEntry(TypedDict):
    """``degradation`` of a manifest line, and inside the entry of a walk, its ``start``."""

    __pydantic_config__ = _OPEN
    name: str
    parameters: dict[str, Any]


class ManifestRecord(TypedDict, total=False):
    """A manifest line, of any version or of another program; only ``key``, ``hq``, and ``lq`` are required."""

    __pydantic_config__ = _OPEN
    key: Required[str]
    hq: Required[str]
    lq: Required[str]
    source: str
    source_sha256: str
    seed: _Seed
    t: _Count
    logsnr: float | None
    sampler: str | None
    num_steps: _Count | None
    evaluations: _Count
    degradation: DegradationEntry
    hq_preparation: dict[str, Any] | None
    scale: _Scale
    preset: str
    tile: _Side | None
    hq_size: _Size
    lq_size: _Size
    psnr: float | None
    psnr_initial: float | None
    accepted: bool
    hq_sha256: str
    lq_sha256: str


class DegradationSpec(TypedDict, total=False):
    """A degradation in ``run.yaml``: the result of ``spec_of``, or in version 0.1 a name with or without a class."""

    __pydantic_config__ = _OPEN
    name: Required[str]
    class_path: str
    init_args: dict[str, Any] | None
    weights_sha256: str


class Settings(TypedDict):
    """``settings`` of ``run.yaml``."""

    __pydantic_config__ = _OPEN
    checkpoint_sha256: str | None
    degradation: DegradationSpec
    scale: _Scale
    sharpen_hq: bool
    gray_hq: _Share
    variants: Annotated[int, Field(ge=1, le=10**6)]
    psnr_drop: Annotated[float, Field(ge=0)] | None
    tile: _Side | None
    seed: _Seed
    device: Literal["cpu", "cuda", "mps"]


class OldSettings(Settings):
    """``settings`` of version 0.1."""

    preset: str
    t_min: _Count
    t_max: _Count
    t_weights: list[Annotated[float, Field(ge=0)]] | None
    sampler: _Sampler
    num_steps: Annotated[int, Field(ge=1, le=10**6)] | None
    eta: _Share


class Machine(TypedDict, total=False):
    """``machine`` of ``run.yaml``."""

    __pydantic_config__ = _OPEN
    precision: Required[Literal["fp32", "bf16"] | None]
    slots: Required[Literal[4, 8]]
    threads: Required[Literal[1, 2, 4] | None]
    multiple: Required[Annotated[int, Field(ge=1, le=1024)]]
    compile: bool


class Places(TypedDict):
    """``places`` of ``run.yaml``."""

    __pydantic_config__ = _OPEN
    hq_dir: str
    checkpoint: str | None


class RunFile(TypedDict):
    """``run.yaml``."""

    __pydantic_config__ = _OPEN
    format: Annotated[int, Field(ge=1, le=10**6)]
    settings: Settings
    machine: Machine
    places: Places


class OldRunFile(TypedDict):
    """``run.yaml`` of version 0.1, which has no ``format``."""

    __pydantic_config__ = _OPEN
    settings: OldSettings
    machine: Machine
    places: Places


class Shard(TypedDict):
    """One shard in the index."""

    __pydantic_config__ = _OPEN
    name: str
    pairs: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0)]


class ShardIndex(TypedDict):
    """``shards.json``."""

    __pydantic_config__ = _OPEN
    shards: Annotated[list[Shard], Field(max_length=10**6)]


RECORD, RUN, OLD_RUN, SHARDS = map(TypeAdapter, (ManifestRecord, RunFile, OldRunFile, ShardIndex))


def fault(error: ValidationError) -> str:
    """Describe in one line the first of the faults that pydantic found, such as ``psnr: got 'x'; expected ...``."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].replace("Input should be", "expected").removesuffix(".")
    if first["type"] == "missing":
        return f"{place} is missing"
    if first["type"] == "json_invalid":
        return "not valid JSON"
    got = ascii(first["input"])
    got = got if len(got) <= 40 else f"{got[:39]}…"
    return f"{place}: got {got}; {message}" if place else f"got {got}; {message}"


def read_run_file(path: Path) -> dict[str, Any]:
    """Read a ``run.yaml`` of this version or of version 0.1.

    Raises:
        UserError: If the file is not the ``run.yaml`` of a pairs folder.
    """
    advice = "expected a file that this version's `predict` wrote"
    try:
        content = read_yaml(path)
    except UserError as error:
        raise UserError(f"{path} does not describe a pairs folder ({error}); {advice}") from None
    schema = RUN if isinstance(content, dict) and "format" in content else OLD_RUN
    try:
        schema.validate_python(content)
    except ValidationError as error:
        raise UserError(f"{path} does not describe a pairs folder ({fault(error)}); {advice}") from None
    return content
