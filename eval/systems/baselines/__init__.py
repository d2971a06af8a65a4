"""Systems that a trained encoder has to beat, each a HEAR module: waveforms in, embeddings out."""
