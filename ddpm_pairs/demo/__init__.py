"""``ddpm-pairs demo``: the full pipeline on images of a simulated camera."""
