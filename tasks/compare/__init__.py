"""The arena: methods side by side on one data set, each with several seeds and class balances."""
