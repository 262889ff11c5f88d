"""Captions of images, from a frozen language model that sees (Libra)."""
