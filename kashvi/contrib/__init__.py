"""Extras for other libraries, one module each; kashvi itself imports none of them.

``pip install 'kashvi[prometheus]'`` brings what ``kashvi.contrib.prometheus`` needs, and so on.
"""
