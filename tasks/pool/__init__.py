"""The pool: the images of a run without their pixels, class names, and labels for evaluation."""
