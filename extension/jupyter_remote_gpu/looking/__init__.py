"""Looks at a host that is to become a cluster: what is there, which configuration would do, whether it works, and how to make a Python there."""
