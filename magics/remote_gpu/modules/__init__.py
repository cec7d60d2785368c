"""The notebook's own modules on their way to a node, and what differs in the versions of both sides."""
