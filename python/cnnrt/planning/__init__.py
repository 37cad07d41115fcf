"""From a prepared graph to an executable plan: lowering, memory, batches, the plan cache."""
