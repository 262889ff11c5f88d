"""The section on class sentences: which sets there were, what was chosen, and what was asked."""

from tasks.report.evidence import Evidence, Section
from tasks.sentences import words
from tasks.sentences.record import Record, read_record

MAX_CLASSES = 50  # of which sentences and answers are shown
MAX_SENTENCES = 5  # of a class


def sentences(evidence: Evidence) -> Section | None:
    """Return the table of the sets and what was asked; None where the templates were taken."""
    ref = evidence.inputs.sentences
    if ref is None:
        return None
    record = read_record(ref.file)
    return {
        "why": record.why,
        "rows": [(row, words.reasons(row.dropped)) for row in record.candidates],
        "chosen": record.chosen,
        "examples": _examples(record),
        "num_classes": len(record.sentences),
        "asked": record.asked,
        "failures": words.reasons(record.asked.failures) if record.asked else "",
        "exchanges": [
            (exchange, words.reasons(exchange.dropped))
            for exchange in (record.asked.exchanges[:MAX_CLASSES] if record.asked else ())
        ],
    }


def _examples(record: Record) -> list[tuple[str, tuple[str, ...], int]]:
    """Return the first classes, some sentences of each, and how many more it has."""
    return [
        (name, own[:MAX_SENTENCES], max(0, len(own) - MAX_SENTENCES))
        for name, own in list(record.sentences.items())[:MAX_CLASSES]
    ]
