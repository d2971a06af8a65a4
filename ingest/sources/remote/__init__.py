"""Files behind URLs in, their bytes out: answers are checked, and what passes is tried again."""
