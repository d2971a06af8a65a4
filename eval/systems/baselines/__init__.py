"""Baselines for a trained encoder, each a HEAR module: waveforms in, embeddings out."""
