# SPDX-License-Identifier: Apache-2.0
"""One certificate that is renewed while it is in use: every context that shows it shows the new one from then on."""

import ssl
from pathlib import Path
from weakref import WeakSet

from p2pd.host.tls import identify, peer_context, server_context


class LiveCertificate:
    """A certificate and its key on disk, and the contexts that were made of them and are still in use.

    Connections that are open stay as they are: TLS looks at certificates in the handshake alone.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._contexts: WeakSet[ssl.SSLContext] = WeakSet()

    def server_context(self, *, client_ca: Path | None = None) -> ssl.SSLContext:
        """As `tls.server_context`."""
        return self._keep(server_context(certificate=self._certificate, key=self._key, client_ca=client_ca))

    def peer_context(self, *, ca_pem: bytes) -> ssl.SSLContext:
        """As `tls.peer_context`."""
        return self._keep(peer_context(ca_pem=ca_pem, certificate=self._certificate, key=self._key))

    def reload(self) -> None:
        """Show what is on disk now. Raises BadInput, having changed nothing, unless that is a certificate and key."""
        identify(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), self._certificate, self._key)
        for context in self._contexts:
            identify(context, self._certificate, self._key)

    def _keep(self, context: ssl.SSLContext) -> ssl.SSLContext:
        self._contexts.add(context)
        return context
