"""One run from its config to its folder: launch, preflight, loop, looks, summary."""
