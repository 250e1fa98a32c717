"""Layers that networks of several methods share."""
