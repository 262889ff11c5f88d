"""The command line: options, checks, and what a person is told."""
