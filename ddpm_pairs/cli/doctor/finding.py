"""The lines of the report."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        state: ``ok``; ``note`` if nothing needs to be done; ``problem`` if something must be fixed.
        text: What was found.
        mend: How to fix a problem; empty otherwise.
    """

    state: Literal["ok", "note", "problem"]
    text: str
    mend: str = ""
