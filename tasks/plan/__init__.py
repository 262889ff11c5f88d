"""What a run understood of what it was given, told before anything is computed."""
