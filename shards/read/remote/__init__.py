"""A set behind a URL, read through a bounded cache of whole shards."""
