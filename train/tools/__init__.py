"""Tools that show what training would see, and measure a step."""
