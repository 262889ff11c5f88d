"""The registered language model that sees, in MLflow's hands and in those of the server."""

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from packaging.requirements import Requirement

from clipcore.libra.bundle import load_model
from clipcore.libra.language import load
from clipcore.libra.source import LLM
from clipcore.rows import Allowed, answered
from flows import cli
from tasks.deploy.export import export
from tasks.deploy.language import check_language
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
from tests.worlds.images import encoded_image
from tests.worlds.libra import laid_out
from tests.worlds.libra_model import save_libra_model, write_language
from tests.worlds.pickles import is_pickle
from tests.worlds.served import CLEAN_START, clean_environment

pytestmark = pytest.mark.slow  # MLflow writes and loads a whole model

IMAGES = [base64.b64encode(encoded_image(seed)).decode() for seed in range(2)]
ROWS: list[dict[str, Any]] = [
    {"image": IMAGES[0]},
    {"image": IMAGES[1], "prompt": "This picture shows a"},
    {"image": IMAGES[1], "prompt": "x" * 100},
]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_language(tmp_path_factory.mktemp("language"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, language: Path) -> Path:
    work = tmp_path_factory.mktemp("work")
    save_libra_model(work / "bundles" / "included", language, included=True)
    return save_libra_model(work / "bundles" / "0123456789abcdef", language)


@pytest.fixture(scope="module")
def tracking(folder: Path, fresh_database: Path) -> Iterator[Tracking]:
    """A workspace with a registered model, first without its language model, then with it."""
    workspace = folder.parents[1]
    claim_workspace(str(workspace))
    (workspace / "mlflow.db").write_bytes(fresh_database.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        tracking = tracking_for(str(workspace))
        run = start_run(tracking, experiment="coft", name="pets", digest="d" * 16, params={})
        for bundle in (folder, folder.with_name("included")):
            evidence = {"kind": "libra", "llm": "local-dir:tiny", "llm_sha256": "0123456789abcdef"}
            evidence["llm_included"] = str(bundle != folder)
            register_model(run, bundle, name="pets", healthy=True, evidence=evidence)
        yield tracking
    connect.cache_clear()


def check(found: list[dict[str, Any]], folder: Path, language: Path) -> None:
    expected = answered(load_model(folder, language=language), ROWS, 0)
    for own, other in zip(found, expected, strict=True):
        for name in ("label", "caption", "error"):
            assert own[name] == other[name]
        if other["error"]:
            continue
        for name in ("score", "caption_score"):
            assert own[name] == pytest.approx(other[name], rel=1e-4)
        assert own["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


SCRIPT = f"""{CLEAN_START}
import json, os, sys, mlflow, pandas as pd
rows = pd.DataFrame(json.load(open("rows.json")))
try:
    mlflow.pyfunc.load_model("models:/pets/1")
except Exception as error:
    refused = str(error)
whole = mlflow.pyfunc.load_model("models:/pets/2").predict(rows)
os.environ["{LLM}"] = sys.argv[1]
model = mlflow.pyfunc.load_model("models:/pets/1")
import clipcore
signature = model.metadata.signature
print(json.dumps({{
    "refused": refused,
    "source": clipcore.__file__,
    "taken": signature.inputs.input_names(),
    "given": signature.outputs.input_names(),
    "example": model.predict(model.input_example)["caption"][0],
    "rows": model.predict(rows).to_dict("records"),
    "rows of the whole": whole.to_dict("records"),
}}))
"""


@pytest.fixture(scope="module")
def seen(
    tracking: Tracking, language: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What MLflow makes of both versions, where coft is not installed."""
    place = tmp_path_factory.mktemp("place")
    (place / "rows.json").write_text(json.dumps(ROWS))
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, str(language)],
        env=clean_environment(tracking),
        cwd=place,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_it_answers_without_coft_without_a_pickle_and_without_a_network(
    seen: dict[str, Any], folder: Path, language: Path
) -> None:
    source = seen["source"]
    assert source.startswith(str(folder.parents[1]))
    assert seen["taken"] == ["image", "path", "url", "prompt"]
    columns = ["label", "score", "probabilities", "caption", "caption_score", "error"]
    assert seen["given"] == columns
    assert seen["example"].startswith("This picture shows a")
    check(seen["rows"], folder, language)
    for artifact in (file.parent for file in folder.parents[1].rglob("MLmodel")):
        files = [path for path in artifact.rglob("*") if path.is_file()]
        assert {path.name for path in files} >= {"pyfunc_libra.py", "tower-1.safetensors"}
        assert not [path for path in files if is_pickle(path.read_bytes())]
        lines = (artifact / "requirements.txt").read_text().split()
        assert "tokenizers" in {Requirement(line).name for line in lines}


def test_it_says_which_language_model_it_needs(seen: dict[str, Any], language: Path) -> None:
    known = f"local-dir:tiny, whose weights have the hash {load(language).sha256()[:12]}"
    assert known in seen["refused"]
    assert "COFT_LLM has to name its folder" in seen["refused"]


def test_one_that_holds_its_language_model_needs_nothing_else(
    seen: dict[str, Any], folder: Path, language: Path
) -> None:
    check(seen["rows of the whole"], folder, language)


def test_texts_have_the_logits_of_the_language_model_after_registration(
    tracking: Tracking, folder: Path, language: Path
) -> None:
    runtime = RuntimeSpec(workspace=str(folder.parents[1]))
    for version in (1, 2):
        served = load_served(f"models:/pets/{version}", runtime, CPU, llm=str(language))
        libra = served.model.libra  # type: ignore[attr-defined]
        texts = laid_out("ttttt")
        for is_bf16 in (False, True):
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
                logits = libra.text_logits(libra(texts))
                assert torch.equal(logits, load(language)(texts.ids))


def test_cofts_own_server_answers_the_same(
    folder: Path, language: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LLM, str(language))
    served = load_served(str(folder), RuntimeSpec(workspace=str(tmp_path)), CPU)
    service = Service(served, Allowed(), Places(8, 10**6), most=4)

    async def ask() -> Any:
        transport = httpx.ASGITransport(make_app(service, max_bytes=10**5))
        async with httpx.AsyncClient(transport=transport, base_url="http://coft") as client:
            answer = await client.post("/invocations", json={"instances": ROWS})
            refused = await client.post("/invocations", json={"instances": [{"picture": "x"}]})
        assert answer.status_code == 200, answer.text
        assert "`path`, `url` or `prompt`, got none" in refused.json()["message"]
        return answer.json()

    try:
        check(asyncio.run(ask())["predictions"], folder, language)
    finally:
        service.close()


def test_what_cannot_be_served_is_told_in_a_sentence(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = RuntimeSpec(workspace=str(tmp_path))
    monkeypatch.delenv(LLM, raising=False)
    with pytest.raises(InputError, match="does not hold it; COFT_LLM has to name its folder"):
        load_served(str(folder), runtime, CPU)
    other = write_language(tmp_path / "other", seed=1)
    with pytest.raises(InputError, match=r"found \w{12}\. Name that one's in COFT_LLM"):
        load_served(str(folder), runtime, CPU, llm=str(other))


def test_what_is_registered_says_which_language_model_is_needed(
    tracking: Tracking, folder: Path, language: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a file of the version is fetched."""
    runtime = RuntimeSpec(workspace=str(folder.parents[1]))
    monkeypatch.delenv(LLM, raising=False)
    wanted = "local-dir:tiny, whose weights have the hash 0123456789ab, and does not hold it"
    with pytest.raises(InputError, match=wanted):
        check_language("models:/pets/1", None, runtime)
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        check_language("models:/pets/1", str(folder), runtime)
    check_language("models:/pets/1", str(language), runtime)
    check_language("models:/pets/2", None, runtime)


def test_commands_for_other_kinds_of_models_name_those_for_this_one(
    tracking: Tracking, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = RuntimeSpec(workspace=str(folder.parents[1]))
    wanted = "that sees: `coft serve --model models:/pets@candidate --llm FOLDER` or"
    with pytest.raises(InputError, match=wanted):
        check_kind("models:/pets@candidate", runtime)
    with pytest.raises(InputError, match=r"models:/pets/1 is a language model that sees"):
        export("models:/pets/1", "onnx", str(tmp_path / "to"), runtime)
    with pytest.raises(InputError, match=r"is a language model that sees: .* and `coft describe"):
        find_model.fn(str(folder), runtime, ModelKind.HARMONY)
    place = ["--workspace", runtime.workspace]
    assert cli.run(["models", "promote", "pets", "--images", "photos", *place]) == cli.BAD_INPUT
    told = capsys.readouterr().err
    assert "is a language model that sees, not to be compared on images; `coft models" in told
    images = save_tiny_classifier(tmp_path / "images")
    with pytest.raises(InputError, match="is a classifier of images: `coft predict --model"):
        check_kind(str(images), runtime, ModelKind.LIBRA)


def test_a_model_is_found_with_all_its_files(tracking: Tracking, folder: Path) -> None:
    runtime = RuntimeSpec(workspace=str(folder.parents[1]))
    found = find_model.fn("models:/pets/2", runtime, ModelKind.LIBRA)
    copied, source = Path(found.uri), folder.with_name("included")
    names = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    assert {path.relative_to(copied) for path in copied.rglob("*") if path.is_file()} == names
    assert Path("language/tokenizer.json") in names
