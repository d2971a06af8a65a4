"""One step of training: batches in, an updated network out."""
