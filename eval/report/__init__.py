"""The report of an evaluation: scores side by side, as HTML, Markdown, CSV and JSON."""
