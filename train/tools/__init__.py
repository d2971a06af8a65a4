"""Looks at what training would see, and measurements of a step."""
