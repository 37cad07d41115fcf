"""A weight's life from the file to the kernel: lazy arrays, packed panels."""
