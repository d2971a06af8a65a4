"""What a trainer calls: an order in, batches of crops out."""
