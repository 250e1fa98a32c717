"""What files of weights say about themselves, under the key ``ddpm_pairs``; checked by pydantic."""

from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter
from typing_extensions import TypedDict

from ddpm_pairs.diffusion.schedule import MOST_STEPS

MOST_DESCRIPTION_BYTES = 2**22
"""Longest description that is read, as JSON; 100,000 betas take about 2 MB."""


class Description(TypedDict):
    """What a file of weights of any kind says about itself."""

    __pydantic_config__ = ConfigDict(strict=True, extra="allow")
    kind: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}$")]


class NetworkDescription(TypedDict):
    """The class of a network and its arguments."""

    __pydantic_config__ = ConfigDict(strict=True, extra="allow")
    class_path: Annotated[str, StringConstraints(pattern=r"^[\w.<>]{1,200}$")]
    init_args: NotRequired[dict[str, Any] | None]


class DenoiserDescription(Description):
    """``Denoiser.spec()``; the values themselves are checked by the classes that take them."""

    net: NetworkDescription
    schedule: str
    num_train_timesteps: Annotated[int, Field(ge=2, le=MOST_STEPS)]
    beta_start: NotRequired[float]
    beta_end: NotRequired[float]
    trained_betas: NotRequired[Annotated[list[float], Field(max_length=MOST_STEPS)]]
    prediction_type: str
    t_max: int | None


ANY, DENOISER = TypeAdapter(Description), TypeAdapter(DenoiserDescription)
