"""Adversarial losses with their regularizations, and perceptual losses."""
