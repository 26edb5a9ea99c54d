"""Whether the server of this container answers; a traceback and exit status 1 if not."""

import os
import ssl
from urllib.request import urlopen

from xlsr_live.server.configuration import configure

settings = configure(environment=os.environ).settings
scheme = "http" if settings.tls_cert is None else "https"
anybody = ssl._create_unverified_context()  # the certificate is for the name by which others know this server
urlopen(f"{scheme}://127.0.0.1:{settings.port}/healthz", timeout=4, context=anybody)
