"""The `coe` command."""
