"""Files behind URLs in, their bytes out: every answer is checked, every passing failure tried again."""
