"""Restorers: networks, losses and the modules that train them on pairs."""
