"""The registered model, called as strangers call it: by MLflow alone, offline, without coft."""

import ast
import base64
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from packaging.requirements import Requirement
from PIL import Image

from clipcore.classifier import load_classifier
from tasks.tracking.registration import register_model
from tasks.tracking.runs import start_run
from tasks.tracking.store import Tracking, connect, tracking_for
from tests.worlds.classifier import CLASSES, save_tiny_classifier
from tests.worlds.image_files import encoded, png
from tests.worlds.images import encoded_image
from tests.worlds.pickles import is_pickle
from tests.worlds.served import CLEAN_START, ask, clean_environment, served

pytestmark = pytest.mark.slow  # MLflow writes and loads a whole model

IMAGES = [encoded_image(seed, form="JPEG" if seed % 2 else "PNG") for seed in range(5)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_classifier(tmp_path_factory.mktemp("work") / "models" / "0123456789abcdef")


@pytest.fixture(scope="module")
def tracking(bundle: Path) -> Iterator[Tracking]:
    """A workspace with one registered model, candidate of the name `pets`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        tracking = tracking_for(str(bundle.parents[1]))
        run = start_run(tracking, experiment="coft", name="pets", digest="d" * 16, params={})
        register_model(run, bundle, name="pets", healthy=True, evidence={"agreement": 0.9})
        yield tracking
    connect.cache_clear()


@pytest.fixture(scope="module")
def artifact(tracking: Tracking) -> Path:
    (found,) = Path(tracking.uri.removeprefix("sqlite:///")).parent.rglob("MLmodel")
    return found.parent


@pytest.fixture(scope="module")
def model(artifact: Path) -> Any:
    from mlflow.pyfunc import load_model

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        return load_model(str(artifact))


@pytest.fixture(scope="module")
def expected(bundle: Path) -> np.ndarray:
    """Probabilities of IMAGES, straight from the classifier that was registered."""
    return load_classifier(bundle).predict_bytes(IMAGES)


def check(rows: Sequence[dict[str, Any]], expected: np.ndarray) -> None:
    """Check answers against probabilities of shape (images, classes).

    In bf16 the batch that an image is in moves its probabilities in the third digit.
    """
    assert len(rows) == len(expected)
    for row, probabilities in zip(rows, expected, strict=True):
        best = int(probabilities.argmax())
        assert row["error"] is None
        assert row["label"] == CLASSES[best]
        assert row["score"] == pytest.approx(probabilities[best], abs=5e-3)
        by_class = [row["probabilities"][name] for name in CLASSES]
        assert by_class == pytest.approx(list(probabilities), abs=5e-3)
        values = list(row["probabilities"].values())
        assert values == sorted(values, reverse=True)


def base64_text(data: bytes) -> str:
    return base64.b64encode(data).decode()


# What lies in the artifact


def test_no_file_of_the_artifact_is_a_pickle(artifact: Path) -> None:
    files = [path for path in artifact.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {"", ".py", ".txt", ".yaml", ".json", ".safetensors"}
    for path in files:
        data = path.read_bytes()
        assert not is_pickle(data), path


def test_the_artifact_names_no_place_on_this_machine(artifact: Path, bundle: Path) -> None:
    places = [str(bundle.parents[1]), str(Path(__file__).parents[3])]
    for path in artifact.rglob("*"):
        if path.is_file() and path.name != "MLmodel":
            assert not any(place in path.read_text(errors="replace") for place in places), path
    lines = (artifact / "MLmodel").read_text().splitlines()
    told = [line for line in lines if any(place in line for place in places)]
    assert [line.split(":")[0] for line in told] == ["artifact_path"]  # where the artifact is


def test_the_embedded_weights_do_not_travel_along(artifact: Path) -> None:
    assert (artifact / "code" / "clipcore" / "classifier.py").is_file()
    weights = [path.parent.name for path in artifact.rglob("*.safetensors")]
    assert weights == ["0123456789abcdef"] * 2


def test_requirements_cover_what_the_shipped_code_imports(artifact: Path) -> None:
    imported = set()
    for path in [artifact / "pyfunc_model.py", *(artifact / "code").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - {"clipcore"}

    lines = (artifact / "requirements.txt").read_text().split()
    required = {Requirement(line).name.lower().replace("-", "_") for line in lines}
    names = {"open_clip": "open_clip_torch", "PIL": "pillow", "sklearn": "scikit_learn"}
    assert {names.get(name, name) for name in foreign} <= required
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in lines)


def test_the_signature_is_what_the_documentation_says(model: Any) -> None:
    signature = model.metadata.signature
    assert {column.name: column.required for column in signature.inputs} == {
        "image": False,
        "path": False,
        "url": False,
    }
    assert signature.outputs.input_names() == ["label", "score", "probabilities", "error"]
    assert [(param.name, param.default) for param in signature.params] == [("top_k", 0)]


# Calls inside a process


def test_bytes_and_paths_get_the_answers_of_the_classifier(
    model: Any, expected: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COFT_IMAGE_ROOT", str(tmp_path))
    paths = [tmp_path / f"{number}.img" for number in range(len(IMAGES))]
    for path, data in zip(paths, IMAGES, strict=True):
        path.write_bytes(data)
    names = [str(path) for path in paths]
    mixed = {"image": [*IMAGES[:3], b"", None], "path": [None, "", "ignored", *names[3:]]}
    for columns in ({"image": IMAGES}, {"path": names}, mixed):
        check(model.predict(pd.DataFrame(columns)).to_dict("records"), expected)


def test_base64_that_looks_like_a_path_is_an_image(model: Any, expected: np.ndarray) -> None:
    text = base64_text(IMAGES[1])
    assert text.startswith("/9j/")
    broken = f"{text[:76]}\n{text[76:]}\n"
    for form in (text, text.encode(), broken, f"data:image/jpeg;base64,{text}"):
        check(model.predict(pd.DataFrame({"image": [form]})).to_dict("records"), expected[1:2])


def test_top_k_cuts_the_probabilities(model: Any, expected: np.ndarray) -> None:
    row = model.predict(pd.DataFrame({"image": IMAGES[:1]}), params={"top_k": 2}).iloc[0]
    best = np.argsort(-expected[0])[:2]
    assert list(row["probabilities"]) == [CLASSES[index] for index in best]


def test_more_images_than_one_batch(model: Any, expected: np.ndarray) -> None:
    answers = model.predict(pd.DataFrame({"image": IMAGES * 30}))
    check(answers.to_dict("records"), np.tile(expected, (30, 1)))


def test_the_device_can_be_chosen(artifact: Path) -> None:
    from mlflow.pyfunc import load_model

    with pytest.raises(RuntimeError, match="device string: nowhere"):
        load_model(str(artifact), model_config={"device": "nowhere"})


def test_the_input_example_is_answered(model: Any) -> None:
    answer = model.predict(model.input_example)
    assert answer["label"][0] in CLASSES


BAD_ROWS = [
    ({"image": b"not an image"}, "not-an-image"),
    ({"image": IMAGES[0][:200]}, "truncated"),
    ({"image": encoded(Image.new("L", (1, 1_000_000)), "PNG")}, "extreme-aspect-ratio"),
    ({"image": encoded(Image.new("L", (100_000, 1)), "PNG")}, "extreme-aspect-ratio"),
    ({"image": png(20_000, 20_000)}, "too-many-pixels"),
    ({"image": encoded(Image.new("F", (4, 4)), "TIFF")}, "unsupported-sample-format"),
    ({"image": "/etc/hostname.png"}, "column `image` holds a text that is neither base64 nor"),
    ({"path": "/etc/hostname"}, "column `path` is off"),
    ({"url": "http://127.0.0.1/a.png"}, "column `url` is off"),
    ({"image": b"", "path": "", "url": ""}, "expected an image file in column `image`"),
]


def test_bad_rows_do_not_cost_the_others(model: Any, expected: np.ndarray) -> None:
    """Each is told with its reason, in whichever batch it is."""
    nothing = {"image": None, "path": None, "url": None}
    rows = [{"image": data} for data in IMAGES for _ in range(20)]
    rows[7:7] = [nothing | row for row, _ in BAD_ROWS]
    answers = model.predict(pd.DataFrame(rows, columns=["image", "path", "url"])).to_dict("records")
    for answer, (_, message) in zip(answers[7:], BAD_ROWS, strict=False):
        assert answer.pop("error").startswith(message)
        assert answer == {"label": None, "score": None, "probabilities": None}
    del answers[7 : 7 + len(BAD_ROWS)]
    check(answers, np.repeat(expected, 20, axis=0))


@pytest.mark.parametrize(("row", "message"), BAD_ROWS)
def test_a_request_without_a_good_row_is_refused(
    model: Any, row: dict[str, Any], message: str
) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=f"row 0: {message}") as caught:
        model.predict(pd.DataFrame([{"image": None, "path": None, "url": None} | row] * 2))
    assert caught.value.get_http_status_code() == 400


# Calls from outside


@pytest.mark.slow
def test_it_loads_without_coft_and_without_a_network(
    tracking: Tracking, artifact: Path, expected: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "image").write_bytes(IMAGES[0])
    script = f"""{CLEAN_START}
import json, mlflow, pandas as pd
model = mlflow.pyfunc.load_model("models:/pets@candidate")
answer = model.predict(pd.DataFrame({{"path": ["image"]}}))
import clipcore
print(json.dumps([clipcore.__file__, answer.to_dict("records")]))
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env={**clean_environment(tracking), "COFT_IMAGE_ROOT": "."},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    source, rows = json.loads(done.stdout.splitlines()[-1])
    assert Path(source).is_relative_to(artifact)
    check(rows, expected[:1])


@pytest.mark.slow
def test_mlflow_predict_answers_on_the_command_line(
    tracking: Tracking, expected: np.ndarray, tmp_path: Path
) -> None:
    request = {"dataframe_split": {"columns": ["image"], "data": [[base64_text(IMAGES[1])]]}}
    (tmp_path / "request.json").write_text(json.dumps(request))
    options = "-m models:/pets@candidate --env-manager local -t json -i request.json -o answer.json"
    subprocess.run(
        [sys.executable, "-m", "mlflow", "models", "predict", *options.split()],
        env=clean_environment(tracking),
        cwd=tmp_path,
        timeout=120,
        check=True,
    )
    answer = json.loads((tmp_path / "answer.json").read_text())
    check(answer["predictions"], expected[1:2])


@pytest.mark.slow
def test_mlflow_serve_answers_a_request(
    tracking: Tracking, expected: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "image.png").write_bytes(IMAGES[0])
    with served(tracking, tmp_path, COFT_IMAGE_ROOT=str(tmp_path)) as url:
        rows = [{"image": base64_text(data)} for data in IMAGES]
        check(ask(url, {"dataframe_records": rows})["predictions"], expected)

        check(ask(url, {"inputs": rows})["predictions"], expected)

        path_only = {"dataframe_records": [{"path": str(tmp_path / "image.png")}]}
        check(ask(url, path_only)["predictions"], expected[:1])

        nulls = [{"image": None, **path_only["dataframe_records"][0]}, {**rows[1], "path": None}]
        split = {"columns": ["image", "path"], "data": [list(row.values()) for row in nulls]}
        for request in (
            {"dataframe_records": nulls},
            {"dataframe_split": split},
            {"inputs": nulls},
        ):
            check(ask(url, request)["predictions"], expected[:2])
        mixed = [path_only["dataframe_records"][0], rows[1]]
        check(ask(url, {"dataframe_records": mixed})["predictions"], expected[:2])

        half = [rows[0], {"image": base64_text(b"no image")}]
        good, bad = ask(url, {"dataframe_records": half})["predictions"]
        check([good], expected[:1])
        assert (bad["label"], bad["score"], bad["probabilities"]) == (None, None, None)
        assert bad["error"].startswith("not-an-image")

        best = ask(url, {"dataframe_records": rows[:1], "params": {"top_k": 1}})["predictions"][0]
        assert best["probabilities"] == {best["label"]: best["score"]}

        with pytest.raises(urllib.error.HTTPError) as caught:
            ask(url, {"dataframe_records": [{"image": base64_text(b"no image")}]})
        with caught.value as answer:
            assert answer.code == 400
            assert "row 0: not-an-image" in answer.read().decode()
        with pytest.raises(urllib.error.HTTPError) as caught:
            ask(url, {"dataframe_records": [{"picture": "x"}]})
        with caught.value as answer:
            assert answer.code == 400
            assert "expected a column `image`, `path` or `url`" in answer.read().decode()
