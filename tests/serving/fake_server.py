"""A server over the stand-in service, to be started as a process: PAUSE seconds for each answer."""

import sys

from softcue.serving.access import Access
from softcue.serving.app import make_app
from softcue.serving.listen import bind_to, listen, url_of
from tests.serving.fake import FakeService, filled_source

if __name__ == "__main__":
    source = filled_source()
    service = FakeService(source)
    service.pause = float(sys.argv[1])
    bound = bind_to("127.0.0.1", 0)
    listen(make_app(service, source, Access()), bound, lambda: print(url_of(bound), flush=True), 10.0)
