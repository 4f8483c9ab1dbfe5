"""``kashvi spec:conformance --driver examples.custom_driver.conformance:sqlite``"""

import atexit
from tempfile import TemporaryDirectory
from uuid import uuid4

from kashvi_spec.kit.driver.subject import DriverUnderTest

from .driver import SqliteDriver

FOLDER = TemporaryDirectory()
atexit.register(FOLDER.cleanup)
sqlite = DriverUnderTest(
    empty=lambda now: SqliteDriver(f"{FOLDER.name}/{uuid4()}.db", now=now),
    again=lambda one: SqliteDriver(one.path, now=one.now),
)
