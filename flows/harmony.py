"""Harmony: modalities that arrive one after another, a stage each."""

from prefect import flow

from tasks.backbone import find_backbone
from tasks.harmony.classes import settle_classes
from tasks.harmony.kept_tests import samples_of_tests
from tasks.harmony.learn import check_repeated, learn_modality, stage_digest
from tasks.harmony.measure import measure_stage
from tasks.harmony.publish import publish_stage, tracked_stage
from tasks.harmony.record import StageRef, StateRef, read_state
from tasks.harmony.samples import backbone_of_names, find_samples
from tasks.harmony.specs import StageSpec
from tasks.storage.finished_runs import record_finished
from tasks.tracking.turns import in_turn


@flow(name="harmony-learn")
@in_turn
def learn(spec: StageSpec) -> StageRef:
    """Learn one more modality (our reconstruction of https://arxiv.org/abs/2504.13218).

    No sample of an earlier modality is read: statistics of each class stand for them.
    """
    state = read_state(spec.state)
    repeated = state.stage_of(spec.modality)
    before = state if repeated is None else state.before(repeated)
    found = find_samples(spec, before)
    classes = settle_classes(before, spec.classes, found.survey.labels, found.offered)
    backbone = find_backbone(backbone_of_names(spec, before), spec.runtime)
    digest = stage_digest(found, before, classes, backbone, spec)
    check_repeated(found, before, repeated, digest, spec.state)

    with tracked_stage(spec, digest) as run:
        stage = learn_modality(found, before, classes, backbone, digest, spec)
        after = StateRef(uri=before.uri, stages=(*before.stages, stage))
        tests = samples_of_tests(spec.tests, after, spec.runtime)
        if found.survey.num_test:
            tests[spec.modality].append(found.test(classes))
        measure_stage(stage, tests, spec.runtime)
        publish_stage(run, after, spec)
    record_finished(spec.runtime.workspace)
    return stage
