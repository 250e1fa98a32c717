"""What the report is made of."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        state: ``ok``; ``note`` for what may be as it is; ``problem`` for what must be mended.
        text: what was found.
        mend: for a problem, what to do.
    """

    state: Literal["ok", "note", "problem"]
    text: str
    mend: str = ""
