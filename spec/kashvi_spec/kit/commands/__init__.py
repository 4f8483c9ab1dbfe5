"""What the kit adds to the command line; each command in a module of its own, imported when it is called for."""
