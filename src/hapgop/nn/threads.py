"""One team of threads for PyTorch and for us."""

from pathlib import Path

import torch

from hapgop import engine


def share_threads() -> None:
    """Lets the engine use the OpenMP runtime that came with PyTorch; without one, it keeps its own threads."""
    for library in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        engine.use_openmp(str(library))
        return
