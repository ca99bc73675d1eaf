"""Debian's nginx with the configuration that petaseal ships, in a folder and on ports of the test's own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

CONFIG = Path(__file__).resolve().parents[3] / "configs" / "deploy" / "nginx.conf"
START_S = 20.0
AROUND = """
{user}
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/petaseal.conf;
}}
"""


class Front(NamedTuple):
    """A running nginx."""

    http: int  # ports
    https: int
    ca: Path  # its certificate, which vouches for itself
    log: Path

    @property
    def url(self) -> str:
        """Where the registry is reached."""
        return f"https://localhost:{self.https}/petaseal"


def program() -> str:
    """Return nginx, or leave the test out where there is none."""
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        told = "nginx is missing (Debian: nginx-light)"
        if os.environ.get("CI") == "true":
            pytest.fail(told)
        pytest.skip(told)
    return found


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate of localhost and its key."""
    pair = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, "-out", str(pair[0]), "-keyout", str(pair[1])], check=True, capture_output=True)
    return pair


@contextlib.contextmanager
def fronted(folder: Path, registry_port: int, *, strips: bool = False) -> Iterator[Front]:
    """Run nginx with the shipped configuration, in which ports and paths of files alone are others.

    Args:
        folder: to make.
        registry_port: where the registry listens.
        strips: whether the prefix is taken off before the registry sees it.
    """
    nginx = program()
    folder.mkdir()
    crt, key = certificate(folder)
    http, https = _free(), _free()
    changes = {
        "127.0.0.1:8600": f"127.0.0.1:{registry_port}",
        "listen 80;": f"listen 127.0.0.1:{http};",
        "listen 443 ": f"listen 127.0.0.1:{https} ",
        "/etc/petaseal/tls/cert.pem": str(crt),
        "/etc/petaseal/tls/key.pem": str(key),
    }
    if strips:
        changes["proxy_pass http://petaseal;"] = "proxy_pass http://petaseal/;"
    text = CONFIG.read_text()
    for old, new in changes.items():
        assert text.count(old) in (1, 2), old
        text = text.replace(old, new)
    (folder / "petaseal.conf").write_text(text)
    user = "user root;" if os.geteuid() == 0 else ""  # else its workers could not read this folder
    (folder / "nginx.conf").write_text(AROUND.format(user=user, folder=folder))
    log = folder / "error.log"
    command = ["setpriv", "--pdeathsig", "TERM", "--", nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    subprocess.run([*command[4:], "-t", "-q"], check=True)
    process = subprocess.Popen([*command, "-e", str(log)])
    try:
        _wait(process, https)
        yield Front(http, https, crt, log)
    finally:
        process.terminate()
        process.wait(START_S)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise RuntimeError("nginx did not start")


def _free() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
