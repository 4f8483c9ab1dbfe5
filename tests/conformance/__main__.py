"""Everything that the specification is held against, and the reports in ``build/``: ``nox -s conformance`` runs this.

The tests that clauses cite, then the suite for drivers on every driver of the project, on servers started here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from kashvi_spec.clauses import load

from tests.servers.launch import REDIS_BINARIES, RedisServer

BUILD = Path("build")
CUSTOM = "examples.custom_driver.conformance:sqlite"


def main(results: list[str]) -> int:
    """The exit code of the suite. ``results``: JUnit files that hold the cited tests; none: they are run first."""
    BUILD.mkdir(exist_ok=True)
    if not results:
        results = [str(BUILD / "cited-tests.xml")]
        cited = sorted({test for clause in load() for test in clause.tests})
        tests = [sys.executable, "-m", "pytest", "-q", "-n", "2", f"--junitxml={results[0]}", *cited]
        subprocess.run(tests, check=False)  # what failed shows in the matrix
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        drivers = ["memory", "fakeredis"]
        for name in sorted(REDIS_BINARIES):
            if REDIS_BINARIES[name]() is None:
                print(f"left out: {name} is not installed", file=sys.stderr)
                if os.environ.get("CI"):
                    return 1
                continue
            server = RedisServer(name, Path(folder) / name).start()
            stack.callback(server.stop)
            drivers.append(server.url)
        suite = [sys.executable, "-c", "from kashvi.cli import main; main()", "spec:conformance"]
        reports = ["--junit", str(BUILD / "conformance.xml"), "--html", str(BUILD / "conformance.html")]
        ours = [*suite, "--strict", *(f"--tests={result}" for result in results), *reports]
        ours += [f"--driver={driver}" for driver in drivers]
        theirs = [*suite, f"--driver={CUSTOM}"]  # it has one queue, which is allowed
        return max(subprocess.run(command, check=False).returncode for command in (ours, theirs))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
