"""Clips and their bytes in, crops out: the stored form, its reader, order, statistics, verification."""
