"""Who may ask, how much they may spend, and what they spent."""
