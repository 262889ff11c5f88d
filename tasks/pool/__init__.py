"""The images of a run without their pixels, class names, and labels for evaluation."""
