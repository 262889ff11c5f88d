"""Rounds of questions: what is trained, what is asked, what came of it."""
