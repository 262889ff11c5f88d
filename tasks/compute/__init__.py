"""Ray: where work runs, over the parts of a stage or over the epochs of a training."""
