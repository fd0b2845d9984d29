"""Published data sets as outcome files, expert facts and labelled texts: one file per shape."""
