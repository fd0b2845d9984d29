"""How many devices and how much host memory a set of experts needs: found by simulating."""
