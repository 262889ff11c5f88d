"""Which images to ask a person about: uncertainty, diversity, balance, and when to stop asking.

A strategy takes what is known of the unlabelled images and says which ones to ask about. It looks
at scores and features only, draws from the generator that it is given, breaks ties by position, and
changes nothing. `query` calls it and sees to it that no two images of a query are all but the same.
"""
