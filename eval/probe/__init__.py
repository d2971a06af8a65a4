"""Embeddings and labels in, scores out, with heareval's numbers."""
