"""Harmony as files: modalities that arrive one after another, a folder for each stage."""
