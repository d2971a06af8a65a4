"""Score models x tasks x seeds with resumable Ray tasks."""
