"""The registered model of several kinds of data, in MLflow's hands and in those of the server."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from clipcore.harmony.bundle import load_model
from clipcore.rows import Allowed, answered
from flows import cli
from tasks.deploy.export import export
from tasks.deploy.serve import load_model as load_served
from tasks.refs import ModelKind
from tasks.serving.app import make_app
from tasks.serving.places import Places
from tasks.serving.service import Service
from tasks.specs import InputError, RuntimeSpec
from tasks.storage.layout import claim_workspace
from tasks.tracking.registration import register_model
from tasks.tracking.registry_model import check_kind, find_model
from tasks.tracking.runs import start_run
from tasks.tracking.store import Tracking, connect, tracking_for
from tests.worlds.classifier import save_tiny_classifier
from tests.worlds.modal_model import save_modal_model, sounds
from tests.worlds.pickles import is_pickle
from tests.worlds.served import CLEAN_START, clean_environment

pytestmark = pytest.mark.slow  # MLflow writes and loads a whole model

ROWS: list[dict[str, Any]] = [
    {"embedding": sounds(1)[0].tolist()},
    {"embedding": [1.0], "modality": "sound"},
    {"embedding": sounds(2)[1].tolist(), "modality": "sound"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_modal_model(tmp_path_factory.mktemp("work") / "bundles" / "0123456789abcdef")


@pytest.fixture(scope="module")
def tracking(folder: Path, fresh_database: Path) -> Iterator[Tracking]:
    """A workspace with a registered model of two kinds of data."""
    workspace = folder.parents[1]
    claim_workspace(str(workspace))
    (workspace / "mlflow.db").write_bytes(fresh_database.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        tracking = tracking_for(str(workspace))
        run = start_run(tracking, experiment="coft", name="pets", digest="d" * 16, params={})
        evidence = {"kind": "harmony", "modalities": "photo, sound"}
        register_model(run, folder, name="birds", healthy=True, evidence=evidence)
        yield tracking
    connect.cache_clear()


def check(found: list[dict[str, Any]], folder: Path) -> None:
    expected = answered(load_model(folder), ROWS, 0)
    for own, other in zip(found, expected, strict=True):
        for name in ("label", "modality", "error"):
            assert own[name] == other[name]
        for name in ("score", "modality_score"):
            assert own[name] == pytest.approx(other[name], abs=1e-5)
        assert own["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


def test_it_answers_without_coft_without_a_pickle_and_without_a_network(
    tracking: Tracking, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    script = f"""{CLEAN_START}
import json, mlflow, pandas as pd
model = mlflow.pyfunc.load_model("models:/birds@candidate")
columns = [column.name for column in model.metadata.signature.inputs]
example = model.predict(model.input_example)
answer = model.predict(pd.DataFrame(json.load(open("rows.json"))))
import clipcore
example, rows = list(example["modality"]), answer.to_dict("records")
print(json.dumps([clipcore.__file__, columns, example, rows]))
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env=clean_environment(tracking),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    source, columns, example, rows = json.loads(done.stdout.splitlines()[-1])
    assert source.startswith(str(folder.parents[1]))
    assert columns == ["image", "path", "url", "embedding", "modality"]
    assert example == ["photo"]
    check(rows, folder)
    artifact = Path(source).parents[2]
    files = [path for path in artifact.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"pyfunc_harmony.py", "tower-1.safetensors"}
    assert not [path for path in files if is_pickle(path.read_bytes())]


def test_cofts_own_server_answers_the_same(folder: Path, tmp_path: Path) -> None:
    import torch

    runtime = RuntimeSpec(workspace=str(tmp_path))
    served = load_served(str(folder), runtime, torch.device("cpu"))
    service = Service(served, Allowed(), Places(8, 10**6), most=4)

    async def ask() -> Any:
        transport = httpx.ASGITransport(make_app(service, max_bytes=10**5))
        async with httpx.AsyncClient(transport=transport, base_url="http://coft") as client:
            answer = await client.post("/invocations", json={"instances": ROWS})
            refused = await client.post("/invocations", json={"instances": [{"picture": "x"}]})
        assert answer.status_code == 200, answer.text
        assert "`url`, `embedding` or `modality`, got none" in refused.json()["message"]
        return answer.json()

    try:
        check(asyncio.run(ask())["predictions"], folder)
    finally:
        service.close()


def test_commands_for_one_kind_of_model_name_those_for_the_other(
    tracking: Tracking, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = RuntimeSpec(workspace=str(folder.parents[1]))
    wanted = "`coft harmony predict --model models:/birds@candidate ...` predicts with it"
    with pytest.raises(InputError, match=wanted):
        check_kind("models:/birds@candidate", runtime)
    with pytest.raises(InputError, match=r"models:/birds/1 is a model of several kinds of data"):
        export("models:/birds/1", "onnx", str(tmp_path / "to"), runtime)
    with pytest.raises(InputError, match="is a model of several kinds of data"):
        find_model.fn(str(folder), runtime)
    place = ["--workspace", runtime.workspace]
    assert cli.run(["models", "promote", "birds", "--images", "photos", *place]) == cli.BAD_INPUT
    assert "`coft models promote birds` promotes it by its evidence" in capsys.readouterr().err
    words = ["--model", "models:/birds/1", "--modality", "smell", "--images", "photos", *place]
    assert cli.run(["harmony", "predict", *words]) == cli.BAD_INPUT
    assert "one of the modalities photo, sound, got 'smell'" in capsys.readouterr().err
    images = save_tiny_classifier(tmp_path / "images")
    with pytest.raises(InputError, match="is a classifier of images: `coft predict --model"):
        check_kind(str(images), runtime, ModelKind.HARMONY)
    found = find_model.fn("models:/birds/1", runtime, ModelKind.HARMONY)
    assert {path.name for path in Path(found.uri).iterdir()} == {
        path.name for path in folder.iterdir()
    }
