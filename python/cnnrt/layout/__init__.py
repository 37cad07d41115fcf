"""How tensors lie in memory: plain and blocked layouts, strides, the arena."""
