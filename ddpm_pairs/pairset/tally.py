"""What the pairs of a folder come to, counted line by line: 16 bytes are kept of each."""

import math
from array import array
from collections.abc import Iterable
from typing import Any


class Tally:
    """Counts, sums and the spread of PSNR over the records of pairs.

    Args:
        records: Manifest lines, read once.

    Attributes:
        pairs: Their number.
        accepted: How many the quality gate let through.
        evaluations: Network evaluations of all pairs together.
        t: Sum of their t.
        psnr: PSNR of each LQ in dB, infinite where it equals HQ.
        psnr_initial: The same of each initial LQ.
    """

    def __init__(self, records: Iterable[dict[str, Any]] = ()) -> None:
        self.pairs = self.accepted = self.evaluations = self.t = 0
        self.psnr, self.psnr_initial = array("d"), array("d")
        for record in records:
            self.pairs += 1
            self.accepted += record["accepted"]
            self.evaluations += record["evaluations"]
            self.t += record["t"]
            for name, values in (("psnr", self.psnr), ("psnr_initial", self.psnr_initial)):
                values.append(math.inf if record[name] is None else record[name])
