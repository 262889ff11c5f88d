"""Image files: where they are, how they are listed, read and decoded, and why some are not."""
