"""Audio inside Debian packages as a source of clips."""
