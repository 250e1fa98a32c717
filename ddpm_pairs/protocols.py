"""What objects must offer that a user hands over by ``class_path``.

The command line compares the annotations of a class with those of a protocol to the letter, so the types are left open
here; the docstrings say what they are.
"""

from typing import Protocol, runtime_checkable


@runtime_checkable
class OwnDegradation(Protocol):
    """The methods of ``ddpm_pairs.degradations.Degradation``, which has its types; `name` and `scale` belong to it."""

    def draw(self, generator):  # noqa: ANN001, ANN201
        """Draw one picture's parameters from its CPU generator, as plain values that JSON can hold."""
        ...

    def apply(self, hq, parameters):  # noqa: ANN001, ANN201
        """Degrade HQ (N, 3, H, W) in [0, 1] by N sets of parameters: (N, 3, H / scale, W / scale)."""
        ...


@runtime_checkable
class OwnOperation(Protocol):
    """One step of ``ddpm_pairs.degradations.Chain``."""

    def draw(self, generator):  # noqa: ANN001, ANN201
        """Draw one picture's parameters from its CPU generator: a dictionary of plain values that JSON can hold."""
        ...

    def apply(self, images, parameters, lq_size):  # noqa: ANN001, ANN201
        """Change pictures (N, 3, H, W) by N sets of parameters; the chain will end at `lq_size` (height, width)."""
        ...
