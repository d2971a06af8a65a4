"""Clips or files in, embeddings out."""
