"""`image-search` whose fetch workers read pictures with `crashing_decode`, which some do not survive."""

import sys

from shared.models import Stage
from tests import short_waits

if __name__ == "__main__":
    if Stage.FETCH in sys.argv:
        from tests.unit.crashing import crashing_decode
        from worker.stages import fetch

        fetch.decode = crashing_decode
    short_waits.main(__spec__.name)
