"""What chunk-caches save and what they cost in quality: every method on the same stream of requests."""
