"""Transfer learning: images to features, and a new last layer fitted to them."""
