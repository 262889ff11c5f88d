"""Files of a workspace: where they are, what they were made from, and that they are finished."""
