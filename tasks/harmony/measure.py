"""How right a state is about what it has learned, on test data."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import cast

import torch

from clipcore.harmony.samples import Samples
from clipcore.harmony.state import State, predict
from tasks.compute.calls import run_tasks
from tasks.harmony.learn import load_state
from tasks.harmony.record import Measured, StageRef, read_accuracy, write_accuracy
from tasks.progress import say
from tasks.specs import RuntimeSpec
from tasks.storage.stage import step


@step("measure")
def measure_stage(
    stage: StageRef, tests: Mapping[str, Sequence[Samples]], runtime: RuntimeSpec
) -> dict[str, Measured]:
    """Measure the state after a stage on test samples of modalities, and add it to what is known.

    Args:
        stage: The stage.
        tests: Samples by modality, from one source or several; one without any is left out.
        runtime: Workspace and cluster.

    Returns:
        All that was ever measured of it.
    """
    if tests:
        ((_, found),) = run_tasks(_measure_in_worker, [(stage.uri, dict(tests))], runtime=runtime)
        write_accuracy(stage, cast("dict[str, Measured]", found))
        for name in tests.keys() - found.keys():
            say(f"No test sample of {name} has a label that is one of the classes.")
    measured = read_accuracy(stage)
    for name, one in measured.items():
        say(f"Accuracy on {name} after stage {stage.record.number}: {one.accuracy:.3f}")
    return measured


@torch.no_grad()
def _measure_in_worker(folder: str, tests: Mapping[str, Sequence[Samples]]) -> dict[str, Measured]:
    state = load_state(folder)
    found = {name: _measured(state, name, samples) for name, samples in tests.items()}
    return {name: one for name, one in found.items() if one is not None}


def _measured(state: State, name: str, sources: Sequence[Samples]) -> Measured | None:
    count = right = guessed = 0
    for inputs, labels in chain.from_iterable(sources):
        said = predict(state, inputs, name).probabilities.argmax(dim=1)
        unsaid = predict(state, inputs).probabilities.argmax(dim=1)
        count += len(labels)
        right += int((said == labels).sum())
        guessed += int((unsaid == labels).sum())
    if not count:
        return None
    return Measured(accuracy=right / count, guessed=guessed / count, count=count)
