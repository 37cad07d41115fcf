"""Measuring a network on images whose classes, or whose things, are known."""
