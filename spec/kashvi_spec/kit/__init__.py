"""What runs the specification against kashvi: it may import everything."""
