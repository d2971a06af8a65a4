"""Export of encoders, search for similar sounds, and a validator for HEAR modules."""
