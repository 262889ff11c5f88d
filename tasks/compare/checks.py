"""What stops a comparison before it begins."""

from clipcore.baselines.method_names import LABELLED_NAMES, NAMES
from tasks.compare.specs import FLOWS, ArenaSpec, CompareSpec, method_of
from tasks.plan.settings import check_settings_of_any, seen_by_none
from tasks.refs import ImagesRef, TaskRef
from tasks.specs import InputError


def check_arena(spec: ArenaSpec) -> None:
    """Refuse methods that there are not, or that lack what they learn from.

    Raises:
        InputError: says which, and what to do.
    """
    known = (*NAMES, *LABELLED_NAMES, *FLOWS)
    if unknown := [name for name in spec.methods if name not in known]:
        raise InputError(f"--methods: {unknown[0]} is none of {', '.join(known)}.")
    with_labels = [name for name in spec.methods if name in LABELLED_NAMES]
    if with_labels and not spec.shots:
        raise InputError(
            f"--methods: {with_labels[0]} learns from labels; say with --shots of how many images "
            "of each class it may see them."
        )
    if spec.shots and not with_labels:
        said = f"--methods {','.join(spec.methods)}"
        raise seen_by_none("--shots", said, ", ".join(LABELLED_NAMES))


def check_looked_at(spec: CompareSpec) -> None:
    """Refuse settings of the runs that no method named would look at.

    What the gate says is in no table: without a name for the registry nobody asks it but whole
    flows.

    Raises:
        InputError: says which.
    """
    registers = spec.run.register_as is not None
    methods = [
        method_of(name) if registers or name in FLOWS else "zero-shot" for name in spec.methods
    ]
    check_settings_of_any(spec.run, methods, f"--methods {','.join(spec.methods)}")


def check_measurable(images: ImagesRef, task: TaskRef) -> None:
    """Refuse images that cannot tell which method is better.

    Raises:
        InputError: nothing has a label, or there is no image to test on.
    """
    if not task.labeled:
        raise InputError(
            "A comparison is measured: expected labels, got none. Say where they are with --labels "
            "(column, folders, or a file)."
        )
    if not images.num_test:
        raise InputError(
            "A comparison is measured on images that nothing is learned from: expected a test "
            "split, got none. Name some with --test, or mark rows of a Parquet file with split = "
            "test."
        )
    if images.num_pool == 0:
        raise InputError("Expected images to learn from, got test images alone.")
