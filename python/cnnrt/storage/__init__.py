"""Files and caches on disk, and the checks of everything read from them."""
