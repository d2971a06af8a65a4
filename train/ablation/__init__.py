"""Comparisons of settings: each is trained and scored as a Ray task, then all are plotted."""
