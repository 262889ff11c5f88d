"""Checks before a run: what is installed, which devices and servers there are, what would fit."""
