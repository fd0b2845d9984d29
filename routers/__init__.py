"""Which expert should answer: the global step names the category, the local step ranks the experts inside it."""
