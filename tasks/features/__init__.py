"""Image features: computed once for each image and tower, and kept by both."""
