"""Image files: listing, reading, decoding, and the quarantine of those that cannot be used."""
