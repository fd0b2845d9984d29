"""Pure measurements on arrays: how well categories are told apart, and how well prompts are routed. Numpy only."""
