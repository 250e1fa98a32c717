"""``ddpm-pairs bank``: codes of degradations, read from pairs of faces."""
