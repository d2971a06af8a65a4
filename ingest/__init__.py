"""Sources of audio in, wave and log-mel shard sets out, with a reason for every missing clip."""
