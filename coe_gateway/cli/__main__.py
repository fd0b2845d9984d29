"""`python -m coe_gateway.cli` is `coe`."""

from coe_gateway.cli import main

main()
