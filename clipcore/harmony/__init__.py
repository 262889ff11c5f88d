"""Harmony: one model for kinds of data (modalities) that arrive one after another.

Our reconstruction of arXiv 2504.13218, whose authors published neither code nor numbers: class
statistics stand for the features of the past (see `modulation`), and the class names' text
embeddings are the head, which cannot forget. Read `stage.py` first.
"""
