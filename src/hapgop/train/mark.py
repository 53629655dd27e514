"""The mark of a data set: the same wherever a copy of it lies, and another for others."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from unicodedata import normalize

from hapgop.train.data import Split
from hapgop.train.folder import Listing

# So many files, and so many bytes of each, or so many images of an array tell it from another with the same names.
_FILES = 16
_BYTES = 1 << 16
_IMAGES = 1000


def of_files(found: Listing) -> str:
    """A hash of all paths and sizes, and of the beginning of some files."""
    # Not of the times of change, which a copy has its own of; nor of pixels, which each version decodes its way.
    files = sorted((normalize("NFC", file.path), file.size, file.path) for file in found.files)
    digest = hashlib.blake2b(digest_size=8)
    for name, size, _ in files:
        digest.update(f"{name}\0{size}\n".encode("utf-8", "surrogatepass"))
    for _, _, path in files[:: -(-len(files) // _FILES) or 1]:
        with suppress(OSError), open(found.root / path, "rb") as file:
            digest.update(file.read(_BYTES))
    return digest.hexdigest()


def of_arrays(classes: Sequence[str], splits: Mapping[str, Split]) -> str:
    """A hash of the classes, all labels, and of some images."""
    digest = hashlib.blake2b(repr(classes).encode(), digest_size=8)
    for name, split in sorted(splits.items()):
        some = split.batch(slice(None, None, -(-len(split) // _IMAGES) or 1))
        digest.update(repr((name, split.pixels.shape)).encode())
        digest.update(split.labels.tobytes())
        digest.update(some.tobytes())
    return digest.hexdigest()
