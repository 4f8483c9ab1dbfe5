"""A job's way to bytes and back: codec, fields, envelope."""
