"""Apply recorded parameters, which another program may have written."""

from collections.abc import Iterator
from contextlib import contextmanager

from ddpm_pairs.degradations import Degradation
from ddpm_pairs.degradations.classes import is_own
from ddpm_pairs.errors import UserError

_MISFITS = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
"""What the degradations of this package raise for parameters that they did not draw."""


@contextmanager
def replaying(degradation: Degradation, whose: str) -> Iterator[None]:
    """Inside the block, parameters from a manifest are applied with a degradation.

    Args:
        degradation: The degradation. An error of a class of your own keeps its traceback.
        whose: The pair, for the message.

    Raises:
        UserError: If a degradation of this package cannot apply the parameters.
    """
    try:
        yield
    except UserError:
        raise
    except _MISFITS as error:
        if not all(is_own(type(part)) for part in _parts(degradation)):
            raise
        raise UserError(
            f"{whose} cannot be remade; its parameters are not those of a {degradation.name} "
            f"({type(error).__name__}: {' '.join(str(error).split())[:120]})"
        ) from error


def _parts(part: object) -> Iterator[object]:
    """Yield a degradation, those inside it, and the operations of a chain."""
    yield part
    inner = [getattr(part, name) for name in ("start", "degradation") if hasattr(part, name)]
    for one in (*inner, *getattr(part, "operations", ())):
        yield from _parts(one)
