"""The clauses of the specification, as predicates over the event stream."""
