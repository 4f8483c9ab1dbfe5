"""What must hold of kashvi, as predicates over its event stream."""
