"""Names of images below the folder that they were listed from."""

import pyarrow as pa
import pyarrow.compute as pc

from tasks.images.sources import Source

_LAST_FOLDER = r"(?s)^(?:.*/)?(?P<folder>[^/]+)/[^/]*$"


def relative(uri: str, root: str) -> str:
    """Return a URI relative to a folder, or unchanged if it is outside of the folder."""
    return uri.removeprefix(base_of(root))


def base_of(root: str) -> str:
    """Return the beginning of the URIs that lie in a folder."""
    return root.rstrip("/") + "/"


def relative_all(uris: pa.ChunkedArray, root: str) -> pa.ChunkedArray:
    """Return URIs relative to a folder, unchanged where they are outside of it."""
    base = base_of(root)
    inside = pc.starts_with(uris, base)
    return pc.if_else(inside, pc.utf8_slice_codeunits(uris, len(base), None), uris)


def names_of(source: Source) -> pa.ChunkedArray:
    """Return the names of the files of a source, in the order of its listing."""
    return relative_all(source.listing["uri"], source.root)


def folders_of(names: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the last folder of each name; null without folders."""
    return pc.struct_field(pc.extract_regex(names, _LAST_FOLDER), "folder")
