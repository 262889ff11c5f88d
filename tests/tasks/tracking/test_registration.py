"""Runs and the registry against a real MLflow database, with what MLflow itself reads back."""

import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from clipcore.classifier import load_classifier
from tasks.specs import InputError
from tasks.storage.uris import open_filesystem
from tasks.tracking.champion import UnhealthyModel, download_bundle, promote, rollback
from tasks.tracking.redaction import redact, redact_fields
from tasks.tracking.registration import register_model
from tasks.tracking.runs import (
    Run,
    finish_run,
    log_file,
    log_history,
    log_metrics,
    log_text,
    start_run,
)
from tasks.tracking.store import connect
from tests.worlds.classifier import CLASSES, save_tiny_classifier
from tests.worlds.images import encoded_image

pytestmark = [
    # MLflow 3.17 warns of its own type hints when mlflow.pyfunc is imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType"),
    # MLflow 3.17 compares a pandas index with a range; pandas 4 will treat that differently.
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated"),
]

HISTORY = [
    {"phase": 1, "peer": 2, "epoch": epoch, "loss": 2.0 / (epoch + 1), "seconds": 1.5}
    for epoch in range(4)
]


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture(scope="module")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its tables; making them takes seconds, copying the file does not."""
    home = tmp_path_factory.mktemp("tracking")
    connect(Tracking(uri=f"sqlite:///{home / 'mlflow.db'}"))
    return home / "mlflow.db"


@pytest.fixture
def workspace(tmp_path: Path, fresh_database: Path) -> Path:
    home = tmp_path / "my work #1"  # characters that mean something in a URI
    home.mkdir()
    shutil.copy(fresh_database, home / "mlflow.db")
    return home


@pytest.fixture
def tracking(workspace: Path) -> Iterator[Tracking]:
    yield tracking_for(str(workspace))
    connect.cache_clear()


def open_run(tracking: Tracking, digest: str = "d" * 16, **params: object) -> Run:
    return start_run(tracking, experiment="coft", name="pets", digest=digest, params=params)


@pytest.fixture
def run(tracking: Tracking) -> Run:
    return open_run(tracking)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return save_tiny_classifier(tmp_path / "models" / "0123456789abcdef")


# Runs


def test_two_flows_have_two_runs_with_their_own_numbers(tracking: Tracking) -> None:
    first = open_run(tracking, "a" * 16, phase1={"epochs": 10}, seed=0)
    log_metrics(first, {"accuracy": 0.5})
    finish_run(first)
    second = open_run(tracking, "b" * 16, phase1={"epochs": 20}, seed=1)
    log_metrics(second, {"accuracy": 0.75})
    finish_run(second)

    found = {run.info.run_id: run for run in connect(tracking).search_runs([first.experiment_id])}
    assert set(found) == {first.run_id, second.run_id}
    assert found[first.run_id].data.params == {"phase1.epochs": "10", "seed": "0"}
    assert found[second.run_id].data.metrics == {"accuracy": 0.75}
    assert found[second.run_id].info.run_name == "pets"
    assert {run.info.status for run in found.values()} == {"FINISHED"}


@pytest.mark.parametrize("end", ["killed", "FAILED", "KILLED"])
def test_an_unfinished_run_of_an_equal_flow_is_continued(tracking: Tracking, end: str) -> None:
    before = open_run(tracking)
    log_metrics(before, {"loss": 1.0}, step=0)
    if end != "killed":  # a killed process says nothing
        finish_run(before, end)  # type: ignore[arg-type]

    after = open_run(tracking)
    log_metrics(after, {"loss": 0.5}, step=1)
    finish_run(after)

    assert (after.run_id, after.resumed, before.resumed) == (before.run_id, True, False)
    client = connect(tracking)
    assert [m.value for m in client.get_metric_history(after.run_id, "loss")] == [1.0, 0.5]
    assert client.get_run(after.run_id).info.status == "FINISHED"
    assert client.get_run(after.run_id).data.tags["coft.starts"] == "2"


def test_a_finished_run_and_another_digest_are_not_continued(tracking: Tracking) -> None:
    finished = open_run(tracking, "a" * 16)
    finish_run(finished)
    unfinished = open_run(tracking, "b" * 16)
    assert open_run(tracking, "a" * 16).run_id != finished.run_id
    assert open_run(tracking, "c" * 16).run_id != unfinished.run_id


def test_a_continued_run_keeps_its_parameters_and_takes_new_ones(tracking: Tracking) -> None:
    open_run(tracking, workspace="here", seed=0)
    run = open_run(tracking, workspace="there", seed=0, ray_address="auto")
    params = connect(tracking).get_run(run.run_id).data.params
    assert params == {"workspace": "here", "seed": "0", "ray_address": "auto"}


def test_more_parameters_and_metrics_than_one_request_takes(tracking: Tracking) -> None:
    names = [f"class {i}: naïve/<{i}>" for i in range(1100)]
    run = open_run(tracking, **{f"p{i}": i for i in range(130)}, classes="x" * 9000)
    log_metrics(run, dict.fromkeys(names, 0.5) | {"unknown": None})
    data = connect(tracking).get_run(run.run_id).data
    assert len(data.params) == 131
    assert len(data.metrics) == 1100
    assert data.metrics["class 7_ naïve/_7_"] == 0.5


def test_history_becomes_curves_and_logging_it_again_adds_nothing(run: Run) -> None:
    for _ in range(2):
        log_history(run, [*HISTORY, {"phase": 1, "peer": 2, "epoch": 4, "loss": float("nan")}])
    curve = connect(run.tracking).get_metric_history(run.run_id, "phase1/peer2/loss")
    assert [(point.step, point.value) for point in curve] == [
        (row["epoch"], row["loss"]) for row in HISTORY
    ]
    seconds = [(point.timestamp - run.started) / 1000 for point in curve]
    assert seconds == [1.5, 3.0, 4.5, 6.0]


def test_files_and_texts_are_artifacts(run: Run, tmp_path: Path, workspace: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("<p>fine</p>")
    log_file(run, report, folder="report")
    log_text(run, "all well", "notes/health.md")
    found = {path.name: path.read_text() for path in workspace.rglob("artifacts/*/*/*/*.*")}
    assert found == {"report.html": "<p>fine</p>", "health.md": "all well"}
    with pytest.raises(InputError, match=r"nowhere\.html"):
        log_file(run, tmp_path / "nowhere.html")


def test_a_deleted_experiment_is_explained(tracking: Tracking) -> None:
    run = open_run(tracking)
    connect(tracking).delete_experiment(run.experiment_id)
    with pytest.raises(InputError, match="was deleted; restore it"):
        open_run(tracking)


# Where runs are kept


def test_a_local_workspace_keeps_its_own_database(tmp_path: Path) -> None:
    tracking = tracking_for(str(tmp_path / "w"))
    assert tracking.uri == f"sqlite:///{tmp_path / 'w' / 'mlflow.db'}"
    assert tracking.artifacts == f"file://{tmp_path}/w/artifacts"
    assert not (tmp_path / "w").exists()


def test_a_bucket_workspace_keeps_runs_in_the_data_folder_and_says_so(tmp_path: Path) -> None:
    tracking = tracking_for("s3://me:secret@bucket/work")
    assert tracking.uri == f"sqlite:///{tmp_path}/data/coft/mlflow.db"
    assert "MLFLOW_TRACKING_URI" in tracking.note
    assert "secret" not in tracking.note


def test_the_environment_wins_and_its_password_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9/")
    tracking = tracking_for(str(tmp_path))
    assert tracking.uri == "http://me:secret@127.0.0.1:9/"
    assert tracking.artifacts is None
    assert "secret" not in repr(tracking)


def test_a_server_that_does_not_answer_is_an_error_within_seconds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@{address}")
    start = time.monotonic()
    with pytest.raises(InputError, match=f"{address} does not answer") as caught:
        open_run(tracking_for(str(tmp_path)))
    assert time.monotonic() - start < 10
    assert "secret" not in str(caught.value)


def test_stores_that_mlflow_refuses_are_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "mlruns"))
    with pytest.raises(InputError, match="MLflow cannot use"):
        open_run(tracking_for(str(tmp_path)))


def test_a_workspace_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make"):
        open_run(tracking_for(str(tmp_path / "file" / "workspace")))


# Secrets


def test_no_secret_reaches_the_database_or_the_artifacts(
    monkeypatch: pytest.MonkeyPatch, tracking: Tracking, workspace: Path, tmp_path: Path
) -> None:
    canary = f"canary{uuid4().hex}"
    monkeypatch.setenv("HF_TOKEN", canary)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{canary}/+aws")
    text = f"coft adapt --images s3://{canary}9@bucket/x --token {canary} HF_TOKEN={canary}"
    run = start_run(
        tracking,
        experiment="coft",
        name=f"run {canary}",
        digest="d" * 16,
        params={
            "images": f"https://user:{canary}8@host/x",
            "hub": {"auth_token": canary[:9], "nested": [f"?X-Amz-Signature={canary}7&x=1"]},
            "num_context_tokens": 16,
            "command": text,
        },
    )
    (tmp_path / "report.html").write_text(f"<code>{text}</code>")
    log_file(run, tmp_path / "report.html")
    log_text(run, text, "command.txt")
    bundle = save_tiny_classifier(tmp_path / "models" / "x")
    register_model(run, bundle, name="pets", healthy=True, evidence={"images": text})
    finish_run(run)

    files = [path for path in workspace.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if canary[:9].encode() in path.read_bytes()] == []
    params = connect(tracking).get_run(run.run_id).data.params
    assert params["num_context_tokens"] == "16"
    assert params["images"] == "https://***@host/x"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("s3://key:secret@bucket/a@b", "s3://***@bucket/a@b"),
        ("AWS_ACCESS_KEY_ID=AKIA1 coft adapt", "AWS_ACCESS_KEY_ID=*** coft adapt"),
        ('{"HF_TOKEN": "hf_1", "seed": 1}', '{"HF_TOKEN": "***", "seed": 1}'),
        ("https://h/x?a=1&X-Amz-Signature=f00&b=2", "https://h/x?a=1&X-Amz-Signature=***&b=2"),
        ("num_context_tokens=16, me@example.org", "num_context_tokens=16, me@example.org"),
        ("accuracy=0.5 at https://example.org/a@b", "accuracy=0.5 at https://example.org/a@b"),
    ],
)
def test_redaction_hides_secrets_and_nothing_else(text: str, clean: str) -> None:
    assert redact(text) == clean
    assert redact(clean) == clean


def test_fields_with_secret_names_are_hidden_at_any_depth() -> None:
    fields = {"api_key": "k", "s3": {"secret": "s", "AWS_PROFILE": "p", "region": "eu"}, "n": 3}
    assert redact_fields(fields) == {
        "api_key": "***",
        "s3.secret": "***",
        "s3.AWS_PROFILE": "***",
        "s3.region": "eu",
        "n": "3",
    }


# The registry


def test_a_healthy_model_becomes_candidate_with_its_evidence(run: Run, bundle: Path) -> None:
    model = register_model(
        run, bundle, name="pets", healthy=True, evidence={"agreement": 0.91, "verdict": "fine"}
    )
    assert (model.uri, model.aliases) == ("models:/pets/1", ("candidate",))
    assert model.evidence == {"agreement": "0.91", "verdict": "fine"}
    found = connect(run.tracking).get_model_version("pets", "1")
    assert found.tags["coft.healthy"] == "true"
    assert "agreement: 0.91" in (found.description or "")
    assert found.run_id == run.run_id


def test_registering_again_returns_the_version_that_exists(run: Run, bundle: Path) -> None:
    first = register_model(run, bundle, name="pets", healthy=True, evidence={})
    assert register_model(run, bundle, name="pets", healthy=True, evidence={}) == first
    other = save_tiny_classifier(bundle.parent / "other", seed=1)
    assert register_model(run, other, name="pets", healthy=True, evidence={}).version == "2"
    again = open_run(run.tracking, "e" * 16)
    assert register_model(again, bundle, name="pets", healthy=True, evidence={}) == first


def test_a_kill_between_files_and_version_records_the_files_once(
    run: Run, bundle: Path, workspace: Path
) -> None:
    register_model(run, bundle, name="pets", healthy=True, evidence={})
    connect(run.tracking).delete_model_version("pets", "1")
    model = register_model(run, bundle, name="pets", healthy=True, evidence={})
    assert (model.version, model.aliases) == ("2", ("candidate",))
    assert len(list((workspace / "artifacts").rglob("MLmodel"))) == 1


def test_an_unhealthy_model_is_registered_but_no_candidate(run: Run, bundle: Path) -> None:
    evidence = {"verdict": "peers agree on 41 % of the images only"}
    model = register_model(run, bundle, name="pets", healthy=False, evidence=evidence)
    assert model.aliases == ()
    with pytest.raises(InputError, match="no candidate; name a version, one of 1"):
        promote(run.tracking, "pets")
    with pytest.raises(UnhealthyModel, match=r"may not become champion.*41 %"):
        promote(run.tracking, "pets", "1")
    assert promote(run.tracking, "pets", "1", force=True).aliases == ("champion",)


def test_promote_keeps_the_former_champion_and_rollback_returns_to_it(
    run: Run, bundle: Path
) -> None:
    def aliases() -> dict[str, tuple[str, ...]]:
        return {model.version: model.aliases for model in list_models(run.tracking, "pets")}

    register_model(run, bundle, name="pets", healthy=True, evidence={})
    promote(run.tracking, "pets")
    assert aliases() == {"1": ("champion",)}
    other = save_tiny_classifier(bundle.parent / "other", seed=1)
    register_model(run, other, name="pets", healthy=True, evidence={})
    assert aliases() == {"2": ("candidate",), "1": ("champion",)}

    assert promote(run.tracking, "pets").version == "2"
    assert aliases() == {"2": ("champion",), "1": ("previous",)}
    assert promote(run.tracking, "pets", "2").version == "2"  # again: nothing changes
    register_model(run, other, name="pets", healthy=True, evidence={})  # a flow that resumes
    assert aliases() == {"2": ("champion",), "1": ("previous",)}

    assert rollback(run.tracking, "pets").version == "1"
    assert aliases() == {"2": (), "1": ("champion",)}
    with pytest.raises(InputError, match="no previous champion"):
        rollback(run.tracking, "pets")
    rolled_back = list_models(run.tracking, "pets")[0]
    assert {"promoted", "rolled_back"} <= set(rolled_back.evidence)


def test_download_gives_the_bundle_that_was_registered(run: Run, bundle: Path) -> None:
    register_model(run, bundle, name="pets", healthy=True, evidence={})
    folder = download_bundle(run.tracking, "models:/pets@candidate")
    images = [encoded_image(1), encoded_image(2)]
    classifier = load_classifier(folder)
    assert classifier.classes == CLASSES
    expected = load_classifier(bundle).predict_bytes(images)
    assert (classifier.predict_bytes(images) == expected).all()
    assert download_bundle(run.tracking, "models:/pets/1") == folder


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/cats@champion", "no model 'cats' in the registry, which has pets"),
        ("models:/pets@champion", "'pets' has no champion, only candidate"),
        ("models:/pets/7", "'pets' has no version '7', only 1"),
        ("runs:/abc/model", "expected models:/NAME@ALIAS"),
        ("models:/o'brien/1", "expected a model name without"),
    ],
)
def test_a_model_that_is_not_there_is_explained(
    run: Run, bundle: Path, uri: str, message: str
) -> None:
    register_model(run, bundle, name="pets", healthy=True, evidence={})
    with pytest.raises(InputError, match=message):
        download_bundle(run.tracking, uri)


def test_a_model_that_points_out_of_its_folder_is_refused(
    run: Run, bundle: Path, workspace: Path
) -> None:
    register_model(run, bundle, name="pets", healthy=True, evidence={})
    (description,) = workspace.rglob("MLmodel")
    text = description.read_text()
    assert text.count("path: artifacts/0123456789abcdef") == 1
    description.write_text(text.replace("path: artifacts/0123456789abcdef", "path: ../../.."))
    with pytest.raises(InputError, match="not a classifier of coft"):
        download_bundle(run.tracking, "models:/pets/1")


def test_a_bundle_in_a_bucket_is_registered(run: Run, bundle: Path) -> None:
    uri = f"memory://{uuid4().hex}/models/abc"
    filesystem, path = open_filesystem(uri)
    filesystem.put(str(bundle), path, recursive=True)
    model = register_model(run, uri, name="pets", healthy=True, evidence={})
    assert model.digest == register_model(run, bundle, name="p", healthy=True, evidence={}).digest


def test_a_folder_that_is_no_clean_bundle_is_refused(run: Run, bundle: Path) -> None:
    with pytest.raises(InputError, match=r"model\.json"):
        register_model(run, bundle.parent, name="pets", healthy=True, evidence={})
    (bundle / "optimizer.pt").write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match=r"optimizer\.pt"):
        register_model(run, bundle, name="pets", healthy=True, evidence={})
    with pytest.raises(InputError, match="model name"):
        register_model(run, bundle, name="a/b", healthy=True, evidence={})
    assert list_models(run.tracking) == []
