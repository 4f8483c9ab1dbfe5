"""The examples of the clauses, and what runs them."""
