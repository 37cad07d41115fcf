"""Beyond classes: the task of a network, and how its outputs become boxes, masks and keypoints."""
