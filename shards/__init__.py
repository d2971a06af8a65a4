"""Clips in, crops out: the stored form, its reader, order, statistics and verification."""
