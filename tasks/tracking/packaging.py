"""From a bundle to a model folder that MLflow loads without coft, without pickle, without network.

The folder holds the bundle (JSON and safetensors), the file `tasks/serving/pyfunc_model.py` as
code, and the modules of clipcore that it needs. Python objects are nowhere in it.
"""

import ast
import hashlib
import io
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

import clipcore
from tasks import serving
from tasks.specs import InputError

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.models import Model, ModelSignature

BUNDLE = "bundle"  # key of the folder among the artifacts of the pyfunc
CODE = Path(serving.__file__).parent / "pyfunc_model.py"
_SAFE = {".json", ".safetensors"}
_CHUNK = 1 << 20
# What clipcore imports, and what serves it. Versions are those that the model was made with.
_PACKAGES = (
    "mlflow",
    "torch",
    "torchvision",
    "open_clip_torch",
    "timm",
    "safetensors",
    "pillow",
    "numpy",
    "pandas",
    "jaxtyping",
)


def check_bundle(bundle: Path) -> None:
    """Raise InputError unless a folder is a bundle and holds nothing but JSON and safetensors."""
    files = _files(bundle) if bundle.is_dir() else []
    if not (bundle / "model.json").is_file():
        msg = f"expected the folder of a classifier with a model.json at {bundle}, found none"
        raise InputError(msg)
    unsafe = [path.name for path in files if path.suffix not in _SAFE]
    if unsafe:
        msg = f"only JSON and safetensors are registered; {bundle} also holds {', '.join(unsafe)}"
        raise InputError(msg)


def bundle_digest(bundle: Path) -> str:
    """Digest the names and contents of a bundle to 16 hex digits."""
    digest = hashlib.sha256()
    for path in _files(bundle):
        digest.update(f"{path.relative_to(bundle)}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()[:16]


def write_model(target: Path, bundle: Path, logged: "LoggedModel") -> None:
    """Write the model folder of a bundle, for the record `logged` that MLflow made for it."""
    # Slow to import, see store.connect.
    import mlflow.pyfunc  # noqa: PLC0415
    from mlflow.models import Model  # noqa: PLC0415

    model = Model(
        artifact_path=logged.artifact_location,
        run_id=logged.source_run_id,
        model_uuid=logged.model_id,
        model_id=logged.model_id,
    )
    with tempfile.TemporaryDirectory(prefix="coft-") as folder:
        mlflow.pyfunc.save_model(
            path=str(target),
            python_model=str(CODE),
            artifacts={BUNDLE: str(bundle)},
            code_paths=[str(_source_of_clipcore(Path(folder)))],
            signature=signature(),
            input_example=input_example(),
            pip_requirements=requirements(),
            model_config={"device": "auto"},  # only what is named here can be chosen at load
            mlflow_model=model,
        )
    _forget_machine(model, target)
    for cache in target.rglob("__pycache__"):
        shutil.rmtree(cache, ignore_errors=True)


def signature() -> "ModelSignature":
    """Say what the model takes and returns; the docstring of its `predict` explains each column.

    `probabilities` is a map and not an array, so that an answer can be read without a second
    request for the class names, and can be cut to the first `top_k`.
    """
    from mlflow.models import ModelSignature  # noqa: PLC0415 # slow to import, see store.connect
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema  # noqa: PLC0415
    from mlflow.types.schema import Map  # noqa: PLC0415

    return ModelSignature(
        inputs=Schema(
            [
                ColSpec(DataType.binary, "image", required=False),
                ColSpec(DataType.string, "path", required=False),
            ]
        ),
        outputs=Schema(
            [
                ColSpec(DataType.string, "label"),
                ColSpec(DataType.double, "score"),
                ColSpec(Map(DataType.double), "probabilities"),
            ]
        ),
        params=ParamSchema([ParamSpec("top_k", DataType.long, 0)]),
    )


def input_example() -> "tuple[object, dict[str, int]]":
    """Return a table of one real PNG of 32 x 32 pixels, and parameters, as a request has them."""
    import pandas as pd  # noqa: PLC0415 # comes with MLflow, and is as slow to import

    ramp = np.linspace(0, 255, 32, dtype=np.uint8)
    pixels = np.stack([np.tile(ramp, (32, 1)), np.tile(ramp[:, None], (1, 32))], axis=2)
    pixels = np.concatenate([pixels, np.full((32, 32, 1), 128, np.uint8)], axis=2)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return pd.DataFrame({"image": [buffer.getvalue()]}), {"top_k": 3}


def requirements() -> list[str]:
    """Pin what the model needs to the versions that are installed here.

    The local part of a version ("+cpu") is left out: package indexes do not carry it.
    """
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in _PACKAGES]


def _forget_machine(model: "Model", target: Path) -> None:
    """Replace the places on this machine that MLflow notes by those inside the model folder."""
    flavor = model.flavors["python_function"]
    flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    flavor["artifacts"][BUNDLE]["uri"] = flavor["artifacts"][BUNDLE]["path"]
    model.save(str(target / "MLmodel"))


def _source_of_clipcore(folder: Path) -> Path:
    """Copy the modules of clipcore that a served classifier imports, and no weights."""
    source, target = Path(clipcore.__file__).parent, folder / "clipcore"
    for module in _closure(source, _imports(CODE, source.name)):
        copy = target / module.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(module, copy)
    return target


def _closure(source: Path, names: Iterable[str]) -> set[Path]:
    """Return the files of modules below `source`, of all that they import there, and of parents."""
    closed: set[Path] = set()
    waiting = list(names)
    while waiting:
        inside = waiting.pop().split(".")[1:]
        parents = [source.joinpath(*inside[:depth], "__init__.py") for depth in range(len(inside))]
        own = [source.joinpath(*inside, "__init__.py"), source.joinpath(*inside).with_suffix(".py")]
        for file in {path for path in (*parents, *own) if path.is_file()} - closed:
            closed.add(file)
            waiting += _imports(file, source.name)
    return closed


def _imports(file: Path, package: str) -> Iterator[str]:
    """Yield the names that a file imports from a package; some are modules, others stand in one."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
