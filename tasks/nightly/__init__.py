"""What a nightly run decides and tells: how much is new, what came of it, who hears."""
