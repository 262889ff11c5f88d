"""The report of a run: one HTML file for people, a few lines of Markdown for Prefect.

Everything is read from the finished files that `ReportInputs` refers to, in bounded memory, so a
report can be written again at any time.
"""
