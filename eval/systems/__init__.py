"""Any HEAR module as a system to score, identified by its code, weights and options."""
