"""A plan of clips in, finished shards out, on Ray; failures are rows that can be retried."""
