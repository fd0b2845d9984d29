"""Experts: what they are, where their weights come from, and the engines that run them."""
