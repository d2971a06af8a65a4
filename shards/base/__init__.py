"""Shared by all rooms: errors, the command line, complete files, places, locks, threads,
copies to and from a GPU."""
