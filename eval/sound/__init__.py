"""Sound files in, waveforms out."""
