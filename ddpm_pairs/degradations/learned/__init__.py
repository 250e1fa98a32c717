"""Degradations whose networks or pools are learned from HQ and real LQ images without pairs."""
