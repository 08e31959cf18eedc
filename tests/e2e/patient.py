"""Single calls of httpx that wait as long as everything else here: its own five seconds are less than a busy machine may take."""

from functools import partial

import httpx

from harness import PATIENCE

SECONDS = 60 * PATIENCE

get = partial(httpx.get, timeout=SECONDS)
head = partial(httpx.head, timeout=SECONDS)
post = partial(httpx.post, timeout=SECONDS)
request = partial(httpx.request, timeout=SECONDS)
