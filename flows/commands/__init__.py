"""The command line: what a person may say, what is refused at once, and what is told at the end."""
