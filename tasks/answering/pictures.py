"""The images of the questions as JPEGs, by their ids: nothing else of the machine is to be had."""

from collections import OrderedDict
from threading import Lock

from tasks.pages.pictures import read_jpegs, unreadable, within

SIDES = (160, 1024, 2048)  # pixels of the longer side: of a neighbour, to look at, to zoom into
ROOM = 64 * 2**20  # bytes of pictures that are kept


class Pictures:
    """Reads images when they are looked at, and keeps those that were last.

    Args:
        max_pixels: A larger image is not decoded; a placeholder stands for it.
    """

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def read(self, uri: str, side: int) -> bytes:
        """Return an image as a JPEG of at most `side` pixels each way."""
        with self._lock:
            if (uri, side) in self._kept:
                self._kept.move_to_end((uri, side))
                return self._kept[uri, side]
        read = read_jpegs([uri], within(side), max_pixels=self._max_pixels)
        if uri not in read:
            return unreadable()  # not kept: what a network hid may be there another time
        with self._lock:
            self._keep((uri, side), read[uri])
        return read[uri]

    def _keep(self, key: tuple[str, int], picture: bytes) -> None:
        if key not in self._kept:
            self._bytes += len(picture)
        self._kept[key] = picture
        while self._bytes > ROOM and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest)
