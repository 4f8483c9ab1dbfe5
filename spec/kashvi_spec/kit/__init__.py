"""The kit runs the specification against kashvi. It may import everything."""
