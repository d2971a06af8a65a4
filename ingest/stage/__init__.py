"""A plan of clips in, finished shards out, on Ray; what failed is a row and can be retried."""
