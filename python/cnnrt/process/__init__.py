"""Settings of the whole process: threads and memory limits."""
