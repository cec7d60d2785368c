"""The data stream: large buffers as blobs, objects fetched whole, and files."""
