"""Memory that threads share: who finds no room waits."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Lock


class Room:
    """Room for several threads: the parts taken at once are no more than the whole.

    Args:
        size: The whole, in the unit of the parts.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._taken = 0
        self._turn = Lock()
        self._changed = Condition()

    @contextmanager
    def part(self, size: int) -> Iterator[None]:
        """Take a part, first come, first served; what is larger than the whole is alone in it."""
        with self._turn, self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + size <= self.size)
            self._taken += size
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size
                self._changed.notify_all()
