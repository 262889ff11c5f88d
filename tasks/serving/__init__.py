"""Code of a served model, which MLflow copies into the artifact."""
