"""Finished shard sets in, one page about them out."""
