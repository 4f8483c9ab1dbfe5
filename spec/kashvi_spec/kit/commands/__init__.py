"""The kit's commands: the place of each, and its line in ``kashvi --help``."""

COMMANDS = {
    "spec:list": ("kashvi_spec.kit.commands.reading:list_command", "List the clauses of the specification."),
    "spec:show": ("kashvi_spec.kit.commands.reading:show_command", "Show a clause and its examples' runs."),
    "spec:lesson": ("kashvi_spec.kit.commands.lessons:lesson_command", "Read a lesson, or write its page."),
    "spec:try": ("kashvi_spec.kit.commands.trying:try_command", "Run an example of your own, with every predicate."),
    "spec:check": ("kashvi_spec.kit.commands.checking:check_command", "Judge a trace against every clause."),
    "spec:model": ("kashvi_spec.kit.commands.modelling:model_command", "Explore the queue as a small model."),
    "spec:walk": ("kashvi_spec.kit.commands.walking:walk_command", "Walk traces through the small model."),
    "spec:conformance": (
        "kashvi_spec.kit.commands.conformance:conformance_command",
        "Test drivers against the clauses.",
    ),
    "spec:worker": (
        "kashvi_spec.kit.commands.worker:worker_command",
        "Test a worker, in any language, against the clauses.",
    ),
    "spec:plant": ("kashvi_spec.kit.commands.planting:plant_command", "Run a command with a known bug planted."),
    "spec:mutants": ("kashvi_spec.kit.commands.mutants:mutants_command", "Test the clauses against known-bad code."),
}
