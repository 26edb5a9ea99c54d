"""Health check of the container: exit status 1 and a traceback if the server does not answer."""

import os
import ssl
from urllib.request import urlopen

from xlsr_live.server.configuration import configure

settings = configure(environment=os.environ).settings
scheme = "http" if settings.tls_cert is None else "https"
anybody = ssl._create_unverified_context()  # the certificate has the public name
urlopen(f"{scheme}://127.0.0.1:{settings.port}/healthz", timeout=4, context=anybody)
