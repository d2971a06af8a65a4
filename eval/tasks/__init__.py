"""Find, check and read HEAR task folders."""
