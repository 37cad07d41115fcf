"""What belongs to the whole process: threads, memory limits and locks."""
