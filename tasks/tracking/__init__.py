"""The only package that speaks to MLflow: runs, what they record, and registered models.

    tracking = store.tracking_for(workspace)
    run = runs.start_run(tracking, experiment="coft", name="pets", digest=digest, params=params)
    runs.log_history(run, history)
    registration.register_model(run, bundle, name="pets", healthy=True, evidence=health)
    runs.finish_run(run)
    champion.promote(tracking, "pets")

MLflow takes seconds to import and most commands never need it, so it is imported on first use.
"""
