"""Test data that a person keeps of any modality: what a state still knows is measured on it."""

from collections import defaultdict

from clipcore.harmony.samples import Samples
from tasks.harmony.checks import split_name
from tasks.harmony.files import SPLIT, find_files, is_features
from tasks.harmony.looks import LabelledLook, open_look
from tasks.harmony.record import StageRef, StateRef
from tasks.harmony.rows import LabelledRows, Rows
from tasks.harmony.survey import modalities_in
from tasks.images.parquet import read_schema
from tasks.images.sources import TABLE_SUFFIXES
from tasks.specs import COLUMN, FOLDERS, InputError, PoolSpec, RuntimeSpec
from tasks.storage.uris import redact


def samples_of_tests(
    tests: tuple[str, ...], state: StateRef, runtime: RuntimeSpec
) -> defaultdict[str, list[Samples]]:
    """Return the labelled samples of known modalities in test data; see `check_tests`."""
    found = defaultdict[str, list[Samples]](list)
    for text in tests:
        name, uri = split_name(text, state.modalities)
        if name is not None and not is_features(uri):
            found[name].append(_images(uri, _stage(state, name), state, runtime))
            continue
        files = find_files(uri)
        part = "test" if any(SPLIT in read_schema(table).names for table in files) else None
        there = modalities_in(files) if name is None else (name,)
        for modality in set(there) & set(state.modalities):
            rows = Rows(files, modality, "test" if part else None)
            found[modality].append(LabelledRows(rows, state.classes))
    return found


def _stage(state: StateRef, name: str) -> StageRef:
    return next(stage for stage in state.stages if stage.record.modality == name)


def _images(uri: str, stage: StageRef, state: StateRef, runtime: RuntimeSpec) -> Samples:
    """Return test images, labelled and seen as those that the stage learned from.

    Those that a model labelled have labels in folders, or in a column. Where some images are for
    testing by their split, the others do not count.
    """
    record = stage.record
    if record.tower is None:
        raise InputError(
            f"--test {record.modality}={redact(uri)}: {record.modality} was learned from features, "
            "so its test data is a Parquet file of features too."
        )
    by_default = COLUMN if uri.lower().endswith(tuple(TABLE_SUFFIXES)) else FOLDERS
    pool = PoolSpec(images=uri, labels=record.labels or by_default)
    look = open_look(pool, record.tower, runtime, for_training=False)
    return LabelledLook(look, state.classes, "test" if look.images.num_test else None)
