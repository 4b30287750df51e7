"""What a picture shows, as far as a program can tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest


def frame(path: Path, width: int = 2) -> set[tuple[int, ...]]:
    """Return the colours along the border of a PNG: white alone where nothing is cut off."""
    image: Any = pytest.importorskip("matplotlib.image")
    pixels = np.round(255 * image.imread(path)[:, :, :3]).astype(int)
    sides = (pixels[:width], pixels[-width:], pixels[:, :width], pixels[:, -width:])
    return {tuple(map(int, colour)) for side in sides for colour in np.unique(side.reshape(-1, 3), axis=0)}
