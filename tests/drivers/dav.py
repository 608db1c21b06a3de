# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's Apache with mod_dav on loopback, under a certificate authority of its own."""

import base64
import hashlib
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.core.settings import CloudSettings

USER, PASSWORD, REALM = "standpipe", 'a "long" password', "cloud"
MODULES = {
    "mpm_event": "mpm_event",
    "authz_core": "authz_core",
    "authn_core": "authn_core",
    "authn_file": "authn_file",
    "authz_user": "authz_user",
    "auth_digest": "auth_digest",
    "auth_basic": "auth_basic",
    "dav": "dav",
    "dav_fs": "dav_fs",
    "ssl": "ssl",
    "socache_shmcb": "socache_shmcb",
}
CONFIG = """\
ServerRoot "{root}"
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile "{root}/pid"
ErrorLog "{root}/error.log"
DefaultRuntimeDir "{root}"
Mutex file:{root}
User www-data
Group www-data
ServerLimit 1
ThreadsPerChild 8
MaxRequestWorkers 8
StartServers 1
MinSpareThreads 1
MaxSpareThreads 8
{modules}
DAVLockDB "{root}/lock/db"
DocumentRoot "{files}"
SSLEngine on
SSLCertificateFile "{root}/server.crt"
SSLCertificateKeyFile "{root}/server.key"
<Directory "{files}">
    DAV On
    LimitXMLRequestBody 100000
    AuthType {scheme}
    AuthName "{realm}"
    {provider}
    Require valid-user
</Directory>
"""


def made_certificate(folder: Path) -> None:
    """ca.crt, server.crt, server.key for 127.0.0.1."""
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a cloud")])
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "ca.crt").write_bytes(pem)
    (folder / "server.crt").write_bytes(pem)
    (folder / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Apache:
    """files: what it serves, at /; `settings` for a client."""

    root: Path
    files: Path
    settings: CloudSettings
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def begun(cls, scheme: str = "Digest") -> "Apache":
        """Ready to be asked. Not below pytest's folder, which any other run closes to www-data."""
        root = Path(tempfile.mkdtemp(prefix="standpipe-dav-"))
        root.chmod(0o755)
        files = root / "files"
        web = pwd.getpwnam("www-data")
        for folder in (files, files / "keep", root / "lock"):
            folder.mkdir()
            os.chown(folder, web.pw_uid, web.pw_gid)
        made_certificate(root)
        port = free_port()
        if scheme == "Digest":
            word = hashlib.md5(f"{USER}:{REALM}:{PASSWORD}".encode()).hexdigest()
            (root / "users").write_text(f"{USER}:{REALM}:{word}\n")
            provider = f'AuthDigestProvider file\n    AuthUserFile "{root}/users"'
        else:
            word = hashlib.sha1(PASSWORD.encode()).digest()
            (root / "users").write_text(f"{USER}:{{SHA}}{base64.b64encode(word).decode()}\n")
            provider = f'AuthBasicProvider file\n    AuthUserFile "{root}/users"'
        modules = "\n".join(
            f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{file}.so"
            for name, file in MODULES.items()
        )
        (root / "apache.conf").write_text(
            CONFIG.format(
                root=root,
                port=port,
                files=files,
                modules=modules,
                scheme=scheme,
                realm=REALM,
                provider=provider,
            )
        )
        (root / "password").write_text(PASSWORD + "\n")
        settings = CloudSettings(
            f"https://127.0.0.1:{port}/keep/", USER, str(root / "password"), str(root / "ca.crt")
        )
        apache = cls(root, files, settings)
        apache.start()
        return apache

    def start(self) -> None:
        binary = shutil.which("apache2") or "/usr/sbin/apache2"
        self.process = subprocess.Popen(
            [binary, "-f", str(self.root / "apache.conf"), "-X"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        port = int(self.settings.url.rsplit(":", 1)[1].split("/")[0])
        deadline = time.monotonic() + 20
        context = ssl.create_default_context(cafile=self.settings.ca_file)
        while True:
            try:
                with (
                    socket.create_connection(("127.0.0.1", port), 1) as plain,
                    context.wrap_socket(plain, server_hostname="127.0.0.1"),
                ):
                    return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    said = self.process.stderr.read() if self.process.stderr else b""
                    raise AssertionError(f"apache2 did not start: {said.decode()}") from None
                time.sleep(0.05)

    def end(self) -> None:
        """Stopped, and nothing of it is left."""
        self.stop()
        shutil.rmtree(self.root)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(20)
            if self.process.stderr:
                self.process.stderr.close()
            self.process = None
