"""The worker kit: tests a worker in any language against the specification through Redis alone."""
