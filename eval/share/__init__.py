"""What leaves the house: exported encoders, similar sounds, a validator for HEAR modules."""
