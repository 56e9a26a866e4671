"""Upstreams that play a scenario over real HTTP, one file a dialect."""
