"""Models in a real MLflow registry, with what MLflow itself reads back."""

from pathlib import Path
from uuid import uuid4

import pytest

from tasks.specs import InputError
from tasks.storage.uris import open_filesystem
from tasks.tracking.registration import register_model
from tasks.tracking.runs import Run
from tasks.tracking.store import connect
from tasks.tracking.versions import list_models
from tests.worlds.classifier import save_tiny_classifier
from tests.worlds.runs import open_run

pytestmark = pytest.mark.slow  # MLflow takes seconds for each version


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
