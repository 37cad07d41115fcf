"""Arrays by name as a NumPy archive."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np

from ..graph import Array
from ..storage.files import atomic_write


def write_npz(path: str, arrays: Mapping[str, Array], *, compress: bool = False) -> None:
    """Writes an .npz file. `np.savez` would take an array named "file" for its own argument.

    Raises:
        OSError: the file cannot be written.
    """
    buffer = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    atomic_write(path, [buffer.getbuffer()])
