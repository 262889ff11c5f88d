"""Names that a disk takes and that mean something elsewhere: to URIs, SQL, shells, terminals."""

import os
from pathlib import Path

NAMES = (
    b"50% off",
    b"%20",
    b"a?b",
    b"a#b",
    b"a:b",
    b"a::b",
    b"it's",
    b'say "x"',
    b" lead",
    b"trail ",
    b"-dash",
    b"--images",
    b"new\nline",
    b"tab\t",
    b"back\\slash",
    b"star*",
    b"[br]",
    b"[!a]",
    b"{a,b}",
    b"a&b;c|d",
    b"$HOME",
    b"`id`",
    b"~x",
    b"~",
    b":cat:",
    b"x.parquet#3",
    b"caf\xe9",  # Latin-1
    b"caf\xc3\xa9",  # composed
    b"cafe\xcc\x81",  # decomposed
    b"CAT",
    b"cat",
    b"\xf0\x9f\x90\xb1",
    b"x" * 251,
)


def write_named(root: Path, name: bytes, content: bytes) -> bytes:
    """Write an image of a name into a folder of that name, and return the path of the folder."""
    folder = os.fsencode(root) + b"/" + name
    Path(os.fsdecode(folder)).mkdir(parents=True, exist_ok=True)
    Path(os.fsdecode(folder + b"/" + name + b".png")).write_bytes(content)
    return folder
