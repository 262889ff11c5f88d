"""Serve a model of the registry, or a model's folder, over HTTP, and follow its alias."""

from typing import TYPE_CHECKING

import torch

from clipcore.classifier import load_classifier
from clipcore.description import kind_of
from clipcore.harmony import bundle
from tasks.deploy import language
from tasks.on_demand import OnDemand
from tasks.refs import ModelKind
from tasks.serving.batcher import Served
from tasks.serving.listening import listen
from tasks.serving.server import allowed_by
from tasks.serving.server import serve as serve_until_stopped
from tasks.serving.specs import ServeSpec
from tasks.specs import InputError, RuntimeSpec
from tasks.tracking.registry_model import check_model, is_registered, local_bundle

if TYPE_CHECKING:
    from clipcore.libra import bundle as libra_bundle
else:  # needs a package of the extra `libra`
    libra_bundle = OnDemand("clipcore.libra.bundle")


def serve(uri: str, spec: ServeSpec, runtime: RuntimeSpec) -> None:
    """Serve `models:/NAME@ALIAS`, `models:/NAME/VERSION` or a folder until a signal says stop.

    Raises:
        InputError: no model has this URI, or the address, the folder or the device is none.
    """
    version, allowed = check_model(uri, runtime), allowed_by(spec)
    device = torch.device(_device(spec.device))

    def load(pinned: str) -> Served:
        return load_model(pinned, runtime, device, llm=spec.llm)

    with listen(spec.host, spec.port) as listening:
        moves = "@" in uri and is_registered(uri) and spec.reload_seconds > 0
        newest = (lambda: check_model(uri, runtime), load) if moves else None
        serve_until_stopped(listening, load(version), spec, allowed, newest)


def load_model(
    uri: str, runtime: RuntimeSpec, device: torch.device, *, llm: str | None = None
) -> Served:
    """Load a version or a folder; a copy of remote files is gone afterwards.

    Args:
        uri: Of the model.
        runtime: Its workspace.
        device: Where it runs.
        llm: Folder of its language model, if it has one and does not hold it.

    Raises:
        InputError: its language model is not there, or another one.
    """
    with local_bundle(uri, runtime) as folder:
        kind = kind_of(folder)
        if kind == ModelKind.HARMONY:
            model = bundle.load_model(folder, device=device)
            return Served.of(uri, model, model.encoders)
        if kind == ModelKind.LIBRA:
            with language.told(uri):
                place = language.named(llm)
                sees = libra_bundle.load_model(folder, language=place, device=device)
            return Served.of(uri, sees, sees.encoders)
        loaded = load_classifier(folder, device=device)
        return Served.of(uri, loaded, loaded.encoders)


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: {str(error).splitlines()[0]}") from error
    return name
