"""Pseudo-labels: zero-shot, the most confident of each class, and the cross-filter of two peers."""
