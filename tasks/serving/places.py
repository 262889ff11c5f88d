"""How much a server takes on at once: images and the bytes of their requests, and no more."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

_LONGEST = 60  # seconds that a client is asked to stay away, at most
_MEMORY = 10.0  # seconds over which the pace is known


class Full(Exception):  # as BadRow
    """There is no room; `retry_after` says in how many seconds there may be some."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"this server is busy; try again in {retry_after} seconds")
        self.retry_after = retry_after


class Places:
    """Room for images and bytes, for one thread: that of the event loop.

    Args:
        images: At most, taken and not answered.
        size: Bytes of their requests, at most.
        clock: Seconds.
    """

    def __init__(self, images: int, size: int, *, clock: Callable[[], float] = monotonic) -> None:
        self._images, self._size, self._clock = images, size, clock
        self._bytes = 0
        self._pace = 0.0  # answered in the last seconds, each counting less the longer it is ago
        self._at = clock()
        self.taken = 0

    @contextmanager
    def take(self, images: int, size: int = 0) -> Iterator[None]:
        """Take places for a block.

        Raises:
            Full: there are not so many.
        """
        if self.taken + images > self._images or self._bytes + size > self._size:
            raise Full(self._wait())
        self.taken += images
        self._bytes += size
        try:
            yield
        finally:
            self.taken -= images
            self._bytes -= size
            self._pace = self._faded() + images

    def _faded(self) -> float:
        now, before = self._clock(), self._at
        self._at = now
        return self._pace * math.exp((before - now) / _MEMORY)

    def _wait(self) -> int:
        """Return in how many seconds what is taken will be answered, as fast as of late."""
        self._pace = self._faded()
        per_second = self._pace / _MEMORY
        return max(1, min(_LONGEST, math.ceil(self.taken / per_second) if per_second else 1))
