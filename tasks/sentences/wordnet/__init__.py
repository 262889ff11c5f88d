"""The nouns of WordNet 3.0: `nouns.xz`, how it was packed, how it is read, and its licence."""
