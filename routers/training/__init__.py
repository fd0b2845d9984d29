"""How a trained router is made, offline: nothing here is imported to serve. Needs the extra `train`."""
