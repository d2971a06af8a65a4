"""Where clips come from: each source lists its clips."""
