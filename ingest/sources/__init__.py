"""Where clips come from: each source lists what it promises."""
