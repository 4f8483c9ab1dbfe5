"""Seeing a queue: ``View``, one protocol of questions for pages and exporters.

``protocol.py`` has the questions, ``values.py`` the answers. ``LiveView`` answers from the driver, the failure table
and the outboxes of a queue.
"""

from .live import LiveView as LiveView
from .protocol import View as View
from .values import BUCKETS_S as BUCKETS_S
from .values import NOT_OFFERED as NOT_OFFERED
from .values import NOT_RECORDED as NOT_RECORDED
from .values import Attempt as Attempt
from .values import Count as Count
from .values import Failed as Failed
from .values import FailedPage as FailedPage
from .values import FailureFilter as FailureFilter
from .values import Histogram as Histogram
from .values import Job as Job
from .values import JobPage as JobPage
from .values import Minute as Minute
from .values import Missing as Missing
from .values import OutboxState as OutboxState
from .values import Story as Story
from .values import Suspect as Suspect
from .values import Worker as Worker
