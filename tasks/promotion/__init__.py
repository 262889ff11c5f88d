"""A version against the champion: who they are, what both see, and what came of it."""
