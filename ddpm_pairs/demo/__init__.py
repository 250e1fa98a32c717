"""``ddpm-pairs demo``: a world whose truth is known."""
