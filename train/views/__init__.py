"""A batch of crops in, two augmented views of each out."""
