"""A log-mel shard set in, a run folder out: views, optimiser, loop, checkpoints, curves."""
