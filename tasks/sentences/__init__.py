"""Class sentences: where they come from, and whether they earn their place without labels."""
