"""Answers of people: ask them with Label Studio or a contact sheet, read what they say, decide.

    write_tasks(folder, query, classes=classes, model="photos/3", max_pixels=128_000_000)
    report = import_answers(folder, "export.json", classes=classes, pool=pool, queried=ids)
    decided = merge(folder)

A query and a decision are Arrow tables; `tasks.answers.schema` says what is in them.
"""

from tasks.answers.config import labeling_config
from tasks.answers.contact_sheet import write_contact_sheet
from tasks.answers.label_studio import TaskFiles, write_tasks
from tasks.answers.outcome import ImportReport
from tasks.answers.reading import read_answers
from tasks.answers.record import decide, import_answers, iter_imports, merge
from tasks.answers.schema import ANSWERS, IMPORTED, MERGED, QUERY, BadAnswers

__all__ = [
    "ANSWERS",
    "IMPORTED",
    "MERGED",
    "QUERY",
    "BadAnswers",
    "ImportReport",
    "TaskFiles",
    "decide",
    "import_answers",
    "iter_imports",
    "labeling_config",
    "merge",
    "read_answers",
    "write_contact_sheet",
    "write_tasks",
]
