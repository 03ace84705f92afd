"""The HTTP API, a file a resource: read, ask, answer."""
