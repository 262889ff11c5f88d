"""What the extensions of files mean: images that are read here, and the package for the others."""

from collections import Counter
from collections.abc import Mapping

from clipcore.image_files import FORMATS

_FORMATS = {
    "JPEG": ".jpg .jpeg .jpe .jfif .pjpeg .mpo",
    "PNG": ".png .apng",
    "GIF": ".gif",
    "BMP": ".bmp",
    "WEBP": ".webp",
    "TIFF": ".tif .tiff",
    "PPM": ".ppm .pgm .pbm .pnm .pfm",
    "AVIF": ".avif .avifs",
    "HEIF": ".heic .heif .hif",
}
_PACKAGES = {
    "pillow": ".ico .icns .cur .tga .pcx .dib .dds .sgi .qoi .xbm .xpm .jp2 .j2k .jpf .jpx .eps",
    "pillow-jxl-plugin": ".jxl",
    "rawpy": ".dng .cr2 .cr3 .crw .nef .nrw .arw .sr2 .orf .rw2 .raf .pef .srw .raw",
    "psd-tools": ".psd .psb",
    "cairosvg": ".svg .svgz",
    "pypdfium2": ".pdf",
    "pydicom": ".dcm .dicom",
    "nibabel": ".nii",
    "openexr": ".exr",
    "imageio": ".hdr",
    "astropy": ".fits .fit",
    "openslide-python": ".svs .ndpi .mrxs .scn",
    "av": ".mp4 .mov .avi .mkv .webm .m4v .mpg .mpeg .wmv",
}
_PLUGINS = {"HEIF": "pillow-heif"}  # of a format; the others are in Pillow, if it was built so

_FORMAT_OF = {suffix: name for name, all_of in _FORMATS.items() for suffix in all_of.split()}
_PACKAGE_OF = {suffix: name for name, all_of in _PACKAGES.items() for suffix in all_of.split()}
IMAGE_SUFFIXES = frozenset(suffix for suffix, name in _FORMAT_OF.items() if name in FORMATS)
_LONGEST = 10  # characters of an extension that is counted by itself


def package_for(suffix: str) -> str | None:
    """Return the package that reads files of an extension, such as `.heic`, if one is known."""
    if suffix in _FORMAT_OF:
        return _PLUGINS.get(_FORMAT_OF[suffix], "pillow")
    return _PACKAGE_OF.get(suffix)


def countable(suffix: str) -> str:
    """Return an extension in small letters, or "" for what is none, such as the date of a backup.

    So the number of different ones is small, however many files there are.
    """
    suffix = suffix.lower()
    name = suffix[1:]
    is_one = len(suffix) <= _LONGEST and name.isalnum() and not name.isdigit()
    return suffix if is_one else ""


def describe_skipped(skipped: Mapping[str, int], *, limit: int = 3) -> str:
    """Return skipped files in one line: `12 .heic (needs pillow-heif), 3 .txt, 1 other`.

    Args:
        skipped: Number of files by extension.
        limit: Extensions that are named, those of images first.
    """
    counts = Counter(skipped)
    order = sorted(counts, key=lambda suffix: (not package_for(suffix), -counts[suffix], suffix))
    named = [suffix for suffix in order if suffix][:limit]
    parts = [f"{counts[suffix]:,} {suffix}{_advice(suffix)}" for suffix in named]
    rest = counts.total() - sum(counts[suffix] for suffix in named)
    return ", ".join([*parts, f"{rest:,} other"] if rest else parts)


def _advice(suffix: str) -> str:
    package = package_for(suffix)
    if package is None:
        return ""
    # coft itself reads the formats of one list, once their package is there.
    return f" (needs {package})" if suffix in _FORMAT_OF else f" (convert with {package})"
