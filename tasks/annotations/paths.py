"""Names of images as others write them: of other machines, of Windows, in URLs, in uploads."""

import re
import unicodedata
from urllib.parse import unquote

_LOCAL_FILES = re.compile(r"^(?:https?://[^/]*)?/?data/local-files/?\?(?:.*&)?d=", re.IGNORECASE)
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_DRIVE = re.compile(r"^/*[a-z]:(?=/)", re.IGNORECASE)
_UPLOAD = re.compile(r"(?:^|/)upload/\d+/[0-9a-f]{8}-(?P<name>[^/]+)$")
_UNWANTED = re.compile(r"[^-\w.]")
_EXTENSION = re.compile(r"\.[a-z][a-z0-9]{1,4}$")


def normal(path: str) -> str:
    r"""Return a path or URI in one spelling: `C:\Photos\a%20b.JPG` is `Photos/a b.JPG`.

    Without scheme, drive, query and empty or dotted parts, URL-decoded, with `/` between folders,
    in composed letters.
    """
    text = path.strip()
    if local := _LOCAL_FILES.match(text):  # how Label Studio names files of its own disk
        text = text[local.end() :]
    elif text[:8].lower().startswith(("http://", "https://")):
        text = re.split(r"[?#]", text, maxsplit=1)[0]
    text = unquote(_SCHEME.sub("", text)).replace("\\", "/")
    parts: list[str] = []
    for part in _DRIVE.sub("", text).split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return unicodedata.normalize("NFC", "/".join(parts))


def uploaded(folded: str) -> str | None:
    """Return the file name, as `stored` does, that was uploaded to Label Studio; None for others.

    Uploads are called `/data/upload/<project>/<eight digits>-<name>`.

    Args:
        folded: A normal path without letter case.
    """
    match = _UPLOAD.search(folded)
    return stored(match["name"]) if match else None


def stored(folded: str) -> str:
    """Return the file name of a path as web servers keep it: words joined, no odd characters."""
    return _UNWANTED.sub("", base_name(folded).replace(" ", "_"))


def bare(folded: str) -> str | None:
    """Return a file name that has no extension; None for others."""
    name = base_name(folded)
    return None if name != stem(name) else name


def stem(folded: str) -> str:
    """Return the file name of a path without its extension."""
    return _EXTENSION.sub("", base_name(folded))


def base_name(path: str) -> str:
    """Return what follows the last slash."""
    return path.rpartition("/")[2]
