"""`coe collect`: run experts over tasks and score what they answer."""
