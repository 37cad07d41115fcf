"""Settings of the whole process: threads, memory limits and locks."""
