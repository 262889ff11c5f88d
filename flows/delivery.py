"""What every method does with its model: label the images, measure, judge, register, report."""

from tasks.evaluate import evaluate
from tasks.gate import assess
from tasks.plan.facts import Plan
from tasks.predict import predict_pool
from tasks.publish import publish, register
from tasks.refs import ModelRef, RunSummary, Stages
from tasks.specs import CoftSpec
from tasks.tracking.runs import Run


def deliver(run: Run, model: ModelRef, stages: Stages, spec: CoftSpec, plan: Plan) -> RunSummary:
    """Take a model from its weights to the registry and a report."""
    predictions = predict_pool(model, stages.images, spec)
    evaluation = evaluate(stages, predictions, spec)
    model = assess(model, stages, predictions, evaluation, spec)
    registered = register(run, model, evaluation, name=spec.register_as, answers=stages.answers)
    return publish(
        run, spec, stages, predictions, evaluation, model, registered=registered, plan=plan
    )
