"""Signal processing for the views of waveforms, batched on the device."""
