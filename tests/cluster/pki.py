"""One certificate authority for a cluster's servers and clients, by the command openssl."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")  # RSA takes seconds
_DAYS = ("-days", "30")


class Authority:
    """Issues certificates into a folder: NAME.crt and NAME.key; its own is ca.crt."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.certificate = folder / "ca.crt"
        self._openssl("req", "-x509", *_KEY, *_DAYS, "-subj", "/CN=tests", *self._out("ca"))

    def issue(self, name: str, subject: str, addresses: Sequence[str] = ()) -> None:
        """A certificate for a client, and with addresses ("IP:…", "DNS:…") for a server."""
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        key = str(self.folder / f"{name}.key")
        self._openssl("req", *_KEY, "-subj", subject, "-keyout", key, "-out", str(request))
        extensions.write_text(f"subjectAltName={','.join(addresses)}\n" if addresses else "")
        self._openssl(
            *("x509", "-req", "-in", str(request), *_DAYS, "-extfile", str(extensions)),
            *("-CA", str(self.certificate), "-CAkey", str(self.folder / "ca.key")),
            *("-CAcreateserial", "-out", str(self.folder / f"{name}.crt")),
        )

    def key_pair(self, name: str) -> None:
        """A bare key pair: NAME.key and NAME.pub."""
        key = str(self.folder / f"{name}.key")
        self._openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        self._openssl("ec", "-in", key, "-pubout", "-out", str(self.folder / f"{name}.pub"))

    def kubeconfig(self, name: str, server: str) -> Path:
        """A kubeconfig of the client NAME, with all certificates within. JSON is YAML."""
        file = self.folder.parent / f"{name}.kubeconfig"

        def content(path: Path) -> str:
            return base64.b64encode(path.read_bytes()).decode()

        user = {
            "client-certificate-data": content(self.folder / f"{name}.crt"),
            "client-key-data": content(self.folder / f"{name}.key"),
        }
        authority = content(self.certificate)
        cluster = {"server": server, "certificate-authority-data": authority}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
            "current-context": "test",
        }
        file.write_text(json.dumps(document, indent=1))
        file.chmod(0o600)
        return file

    def _out(self, name: str) -> tuple[str, ...]:
        key, certificate = self.folder / f"{name}.key", self.folder / f"{name}.crt"
        return "-keyout", str(key), "-out", str(certificate)

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
