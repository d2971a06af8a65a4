"""What a shard is: form, writer, sidecar, index, check, and the one definition of log-mel."""
