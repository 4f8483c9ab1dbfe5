"""A search whose states are values: machines, what each thread is about to do, and the server's store.

A state is copied, changed by one step, and compared by its key: no run is repeated, and no frame is read. So workers
may have several threads, and attempts may take time or never end. A step is judged by what the server has done: each
job is settled for good once, after as many attempts as it may have, and does not start again; and from every state all
jobs can end without another death. The predicates do not judge here.
"""

from .search import Searched as Searched
from .search import search as search
from .state import Scope as Scope
