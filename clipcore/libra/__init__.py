"""Libra: a frozen language model that sees (arXiv 2405.10140)."""
