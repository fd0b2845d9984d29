"""Real experts that do not all fit, asked through HTTP: our scheduler beside strict order of arrival over LRU."""
