"""The worker kit: a worker in any language, held against the specification through Redis alone."""
