"""Rounds of questions that a labelled data set answers: is a strategy worth its labels?"""

from prefect import flow

from flows.coft import coft
from flows.rounds_start import find_start
from tasks.active.checks import check_learner, check_simulation, settle_start
from tasks.active.simulate import SimulationRef, check_measurable, simulate_rounds
from tasks.active.specs import SimulationSpec
from tasks.backbone import find_backbone
from tasks.pool.open import open_images
from tasks.pool.task import open_task
from tasks.run import tracked
from tasks.storage.finished_runs import record_finished
from tasks.tracking.turns import in_turn


@flow(name="simulate")
@in_turn
def simulate(spec: SimulationSpec) -> SimulationRef:
    """Run the active rounds of https://arxiv.org/abs/2602.04340 against labels that are held back.

    Every strategy meets the same start, the same learner and the same seeds.
    """
    check_simulation(spec)
    run_spec = spec.active.run
    settle_start(spec.active.start, run_spec.runtime)
    backbone = find_backbone(run_spec.backbone, run_spec.runtime)
    check_learner(spec.active.learner, backbone.kind)
    images = open_images(run_spec.pool, run_spec.runtime)
    task = open_task(images, run_spec.pool, run_spec.runtime)
    check_measurable(images, task)
    with tracked(run_spec, images, task, backbone, name="simulate", more=spec) as run:
        start = find_start(spec.active, images, task, backbone, run)
        accuracy = coft(run_spec).accuracy if spec.with_coft else None
        findings = simulate_rounds(start, images, task, backbone, spec, run, coft_accuracy=accuracy)
    record_finished(run_spec.runtime.workspace)
    return findings
