"""What a server does with a request, apart from HTTP: decode, wait for the model, answer."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from os import cpu_count
from typing import Any, TypeVar

from clipcore.rows import Allowed, BadRequest, Row, check_rows
from tasks.serving.batcher import Batcher, Served
from tasks.serving.metrics import Metrics
from tasks.serving.places import Places
from tasks.serving.requests import Asked

Made = TypeVar("Made")


class Service:
    """A model with its threads; nothing here runs longer than a moment on the event loop.

    Args:
        served: The first model.
        allowed: What `path` and `url` may name.
        places: How much is taken on at once.
        most: Rows of a request, at most.
    """

    def __init__(self, served: Served, allowed: Allowed, places: Places, *, most: int) -> None:
        self.metrics = Metrics()
        self.metrics.taken.set_function(lambda: places.taken)
        self.places = places
        self._allowed, self._most = allowed, most
        self._batcher = Batcher(self.metrics.batch)
        self._decoders = ThreadPoolExecutor(cpu_count(), thread_name_prefix="coft-decode")
        self.replace(served)

    def replace(self, served: Served) -> None:
        """Serve another model from the next request on; what was taken is answered by its own."""
        self.served = served
        self.metrics.model.info({"uri": served.uri})

    def is_alive(self) -> bool:
        """Return whether the thread of the model is there."""
        return self._batcher.is_alive()

    def close(self) -> None:
        """Answer what was taken, and end the threads."""
        self._decoders.shutdown()
        self._batcher.stop()

    async def in_thread(self, work: Callable[..., Made], *arguments: Any) -> Made:
        """Run something that takes time beside the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._decoders, work, *arguments)

    async def answer(self, asked: Asked) -> tuple[Served, list[dict[str, object]]]:
        """Return the model that answered, and the answer to each row.

        One place is taken by whoever calls this.

        Raises:
            BadRequest: too many rows, or none with a usable image.
            Full: there is no room for so many images.
        """
        if len(asked.rows) > self._most:
            msg = f"expected at most {self._most} rows in a request, got {len(asked.rows)}"
            raise BadRequest(f"{msg}; `coft predict` takes any number")
        served = self.served
        with self.places.take(max(0, len(asked.rows) - 1)):
            found = await asyncio.gather(*(self._one(row, served) for row in asked.rows))
        said = [served.model.say(one, asked.top_k) for one in found]
        self._count(said)
        check_rows(said)
        return served, said

    async def _one(self, row: Row, served: Served) -> Any:
        """Return what the model says of a row, or as a text why it says nothing."""
        waiting = await self.in_thread(self._decode, row, served)
        return waiting if isinstance(waiting, str) else await asyncio.wrap_future(waiting)

    def _decode(self, row: Row, served: Served) -> "str | Future[Any]":
        """Decode an image and hand it to the model, in a thread of its own."""
        read = served.model.read(row, self._allowed)
        return read if isinstance(read, str) else self._batcher.submit(served, read)

    def _count(self, said: Sequence[dict[str, object]]) -> None:
        refused = sum(answer["error"] is not None for answer in said)
        self.metrics.images.labels("refused").inc(refused)
        self.metrics.images.labels("answered").inc(len(said) - refused)
