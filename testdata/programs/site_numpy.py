"""numpy where this interpreter has one, although site did not run (-S); else None."""

import sys


def find():
    try:
        import numpy
        return numpy
    except ImportError:
        if sys.version_info < (3,):  # where importing site runs it
            return None
    import site
    before = list(sys.path)
    sys.path += site.getsitepackages()
    try:
        import numpy
        return numpy
    except ImportError:  # none, or another version's
        return None
    finally:
        sys.path[:] = before


numpy = find()
