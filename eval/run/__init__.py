"""Models x tasks x seeds scored as resumable Ray tasks."""
