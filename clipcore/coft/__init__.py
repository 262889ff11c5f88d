"""Collaborative fine-tuning (CoFT), https://arxiv.org/abs/2602.04337."""
