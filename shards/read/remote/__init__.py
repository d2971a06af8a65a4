"""A set behind a URL, read through a bounded folder of whole shards."""
