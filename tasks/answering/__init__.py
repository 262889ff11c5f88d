"""A page on which a person answers: one key an image, saved at once."""
