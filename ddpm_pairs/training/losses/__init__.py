"""Losses: adversarial, with its regularizations, and perceptual."""
