"""Active rounds: what a learner trains on, which images to ask about, and when to stop asking.

A strategy takes what is known of the unlabelled images and returns which ones to ask about. It
reads scores and features only, draws from the generator that it is given, breaks ties by position,
and changes nothing. `query` calls it and keeps near-duplicates out of a query.

Reference: https://arxiv.org/abs/2602.04340, section 3.
"""
