"""From a trained checkpoint to embeddings of audio and scores on HEAR tasks."""
