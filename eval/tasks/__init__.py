"""HEAR task folders: found, checked, read."""
