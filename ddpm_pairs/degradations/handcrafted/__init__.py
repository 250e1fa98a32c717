"""Handcrafted degradations."""
