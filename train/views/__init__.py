"""A batch of crops in, two augmented views of each out.

`pipeline.py` draws the way through, `base.py` shows how to write a view of your own.
"""
