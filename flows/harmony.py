"""Harmony: modalities that arrive one after another, a stage each."""

from prefect import flow

from tasks.backbone import find_backbone
from tasks.harmony.backbones import backbone_of_names
from tasks.harmony.checks import check_request
from tasks.harmony.classes import settle_classes
from tasks.harmony.compare import Comparison, compare
from tasks.harmony.files import find_files
from tasks.harmony.kept_tests import samples_of_tests
from tasks.harmony.known import KnownState
from tasks.harmony.learn import check_repeated, learn_modality, stage_digest
from tasks.harmony.measure import measure_stage
from tasks.harmony.page import write_comparison
from tasks.harmony.predict import AnswersRef, embed_images, predict_images, predict_samples
from tasks.harmony.prediction import check_asked
from tasks.harmony.publish import publish_stage, tracked_stage
from tasks.harmony.record import StageRef, StateRef, existing_state, read_state
from tasks.harmony.register import check_same, register_stage
from tasks.harmony.samples import digest_of_features, find_samples
from tasks.harmony.specs import CompareSpec, PredictSpec, StageSpec
from tasks.pool.open import open_images
from tasks.refs import ModelKind
from tasks.specs import BackboneSpec
from tasks.storage.finished_runs import record_finished
from tasks.tracking.registry_model import find_model
from tasks.tracking.turns import in_turn


@flow(name="harmony-learn")
@in_turn
def learn(spec: StageSpec) -> StageRef:
    """Learn one more modality (our reconstruction of https://arxiv.org/abs/2504.13218).

    No sample of an earlier modality is read: statistics of each class stand for them.

    Args:
        spec: The modality, its samples, and the state that it is added to.
    """
    check_request(spec)
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
        if found.survey.num_test and spec.modality not in tests:
            tests[spec.modality].append(found.test(classes))
        measure_stage(stage, tests, spec.runtime)
        model = register_stage(run, after, spec)
        publish_stage(run, after, spec)
    record_finished(spec.runtime.workspace)
    return stage.model_copy(update={"model_uri": model and model.facts["model_uri"]})


@flow(name="harmony-compare")
@in_turn
def compare_methods(spec: CompareSpec) -> Comparison:
    """Run other methods on data of all modalities of a state, in the order in which they came.

    Args:
        spec: The state, the data, and which methods.
    """
    state = existing_state(spec.state)
    first = state.stages[0].record
    found = compare(
        f"{state.uri}/comparison",
        find_files(spec.data),
        state.modalities,
        state.classes,
        backbone=first.backbone.name,
        template=first.begin.template,
        methods=spec.methods,
        seeds=spec.seeds,
        orders=spec.orders,
        content=digest_of_features(spec.data, state.modalities, spec.runtime),
        origin=spec.data,
        runtime=spec.runtime,
    )
    write_comparison(state, found)
    record_finished(spec.runtime.workspace)
    return found


@flow(name="harmony-predict")
@in_turn
def predict(spec: PredictSpec) -> AnswersRef:
    """Say the class of images or of rows of features, and which modality each was taken for.

    Args:
        spec: With what, of what, and where the answers go.
    """
    check_asked(spec)
    if spec.model is not None:
        known = KnownState.of_model(find_model(spec.model, spec.runtime, ModelKind.HARMONY))
    else:
        known = KnownState.of_stages(existing_state(str(spec.state)))
    if spec.pool is None:
        answers = predict_samples(known, spec)
    else:
        if (tower := known.tower_elsewhere(spec.modality)) is not None:
            backbone = find_backbone(BackboneSpec(name=tower.name), spec.runtime)
            check_same(tower, backbone.weights_sha256)
        images = open_images(spec.pool, spec.runtime, for_training=False)
        features = embed_images(known, images, spec)
        answers = predict_images(known, images, features, spec)
    record_finished(spec.runtime.workspace)
    return answers
