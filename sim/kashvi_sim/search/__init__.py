"""Exhaustive search of a small world, whose states are values: machines, what each thread is about to do, the server's
store, and the memory of the predicates.

A state is copied, changed by one step, and compared by its key: no run is repeated, and no frame is read. The worker's
own code makes a step: its machine decides, and its shell tells; only the loops and the waits are the search's. All
predicates but one judge each step of each path; and from every state all jobs can end without another death.
"""

from .scope import Scope as Scope
from .search import Played as Played
from .search import Searched as Searched
from .search import play as play
from .search import search as search
