"""The names that a cell reads, binds, changes, deletes and imports, from its text alone."""
