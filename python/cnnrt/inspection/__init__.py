"""Reports that run a model: comparisons, activation maps, pictures of layers."""
