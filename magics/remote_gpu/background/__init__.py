"""Cells that run while the notebook goes on: jobs and their queue."""
