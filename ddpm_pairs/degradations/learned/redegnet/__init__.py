"""ReDegNet: a degradation read from pairs of faces as a code, and rendered on any image."""
