"""Settings compared: each trained and scored as a Ray task, then drawn."""
