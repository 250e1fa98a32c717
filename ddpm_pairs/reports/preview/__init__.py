"""``ddpm-pairs preview``: contact sheets and histograms of random degradations."""
