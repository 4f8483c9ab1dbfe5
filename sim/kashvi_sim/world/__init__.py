"""The simulated world: virtual time, one server, processes, and the faults that strike them."""
