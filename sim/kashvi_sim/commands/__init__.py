"""The simulator's commands: the place of each, and its line in ``kashvi --help``."""

COMMANDS = {
    "sim:run": ("kashvi_sim.commands.run:run", "Run a workload in virtual time, from one seed."),
    "sim:sweep": ("kashvi_sim.commands.sweep:sweep_command", "Run many seeds with faults; judge every event."),
    "sim:explore": ("kashvi_sim.commands.explore:explore_command", "Search every interleaving, outcome and crash."),
    "sim:replay": ("kashvi_sim.commands.replay:replay_command", "Replay production's traces: how many workers?"),
    "sim:faults": ("kashvi_sim.commands.sweep:faults_command", "List the faults and what they excuse."),
    "sim:bench": ("kashvi_sim.commands.bench:bench", "Measure the simulator on this machine."),
}
