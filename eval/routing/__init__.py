"""What a trained router is worth on prompts whose outcomes or labels are known: arrays in, documents out."""
