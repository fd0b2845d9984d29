"""The admin port: keys, teams, usage, experts and the router, for whoever runs the gateway."""
