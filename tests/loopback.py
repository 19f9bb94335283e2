"""How tests ask the servers they have started, which speak plain HTTP on the loopback interface."""

import ssl

PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""httpx's `verify`. Without it every request that has no client of its own reads the system's authorities anew, 30 ms of
processor time (measured), which a test that asks again and again takes away from the server it waits for."""
