"""The process that does the work of a run: it lives as long as the run, and holds one model."""

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import ray

from infra.allocator import keep_freed_memory
from tasks.on_demand import OnDemand
from tasks.progress import keep_words

if TYPE_CHECKING:
    import torch
else:  # the process that asks for workers does not wait for it
    torch = OnDemand("torch")

LIBRARIES = ("clipcore.backbone", "open_clip.model")  # seconds, so before work is there


@dataclass(frozen=True)
class Held:
    """A model with its data, that a worker makes once and keeps until it gets another one.

    Attributes:
        make: Called as `make(*arguments, device)` in the worker.
        arguments: What it is made from; pickled.
        key: Tells it from others.
    """

    make: Callable[..., Any]
    arguments: tuple[Any, ...]
    key: str = field(default_factory=lambda: uuid4().hex)


@dataclass(frozen=True)
class Call:
    """A function to call in a worker, or a method of what the worker holds; idempotent.

    Attributes:
        target: The function, or the name of the method.
        arguments: Its arguments; pickled.
        held: Whose method it is; None for a function.
    """

    target: Callable[..., Any] | str
    arguments: tuple[Any, ...] = ()
    held: Held | None = None


class Answer(NamedTuple):
    """What a call returned, and what was said meanwhile, which a worker has nobody to tell."""

    value: Any
    words: list[str]


class Worker:
    """Loads the libraries once, and then does what it is asked, one call after the other.

    Args:
        device: Where models go, `cpu` or `cuda`.
        num_threads: Of PyTorch; as many as the worker holds cores.
    """

    def __init__(self, device: str, num_threads: int) -> None:
        keep_freed_memory()
        self._device = device
        self._num_threads = num_threads
        self._key = ""
        self._held: Any = None

    def node(self) -> str:
        """Return the id of the node that the worker is on."""
        return str(ray.get_runtime_context().get_node_id())

    def load(self) -> None:
        """Load the libraries, which the garbage collector then leaves alone: they stay."""
        for name in LIBRARIES:
            import_module(name)
        gc.freeze()

    def do(self, call: Call) -> Answer:
        """Make a call; the number of threads that it sets ends with it."""
        torch.set_num_threads(self._num_threads)
        with keep_words() as words:
            if call.held is None:
                function: Any = call.target
            else:
                function = getattr(self._get(call.held), str(call.target))
            return Answer(function(*call.arguments), words)

    def _get(self, held: Held) -> Any:
        if held.key != self._key:
            self._release()
            self._held = held.make(*held.arguments, self._device)
            self._key = held.key
        return self._held

    def _release(self) -> None:
        self._key, self._held = "", None
        gc.collect()
        if self._device == "cuda":
            torch.cuda.empty_cache()  # another worker may share the GPU
