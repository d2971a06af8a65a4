"""Any HEAR module as something to score, told apart by code, weights and options."""
