"""What people wrote about images: lists of classes, and files of labels in the formats of others.

    classes = class_list.parse(data, file_name="animals.csv", column=None)
    tables = reading.iter_annotations("labels.csv", classes.names)
    with matching.Located() as images: ...

One reader of label files and one rule for file names serve `--labels`, `--answers` and the oracle.
"""
