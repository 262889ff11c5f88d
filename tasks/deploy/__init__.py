"""A registered model put to use: behind HTTP, or in the formats of other programs."""
