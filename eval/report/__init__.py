"""The report of an evaluation: scores side by side, as a page, as Markdown and as tables."""
