"""What runs where a model is served: files that MLflow copies into the artifact."""
