"""One run, from its config to its folder: launch, preflight, loop, evaluations, summary."""
