"""Which experts have their weights where, who waits, and who goes."""
