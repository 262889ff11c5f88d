"""Answers of people: ask with Label Studio or a contact sheet, read the answers, merge them.

    label_studio.write_tasks(folder, query, classes=classes, model="photos/3", max_pixels=10**8)
    report = record.import_answers(folder, "export.json", classes=classes, pool=pool, queried=ids)
    merged = record.merge(folder)

Queries and merged answers are Arrow tables; their columns are in `tasks.answers.schema`.
"""
