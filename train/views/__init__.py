"""A batch of crops in, two augmented views of each out.

`pipeline.py` draws the stages, `base.py` shows how to write a view of your own.
"""
