"""kashvi's specification: predicates over its event stream, and a model."""
