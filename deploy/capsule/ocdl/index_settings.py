"""Prints the package index that pip is configured with on this machine, as JSON; runs as the platform's user.

usage: python3 -I index_settings.py < {"index": URL or null, "hosts": ["host", "host:port"]}

`index` overrides the configured index. `hosts` are reachable in addition to those of the index: some indexes keep their
files on other hosts. Runs in an environment that has pip and no packages of a project.
"""

import ast
import json
import os
import subprocess
import sys
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

PYPI = "https://pypi.org/simple"
# PyPI keeps its files on another host, as documented.
PYPI_FILES = "files.pythonhosted.org"
# Later sections win, as in pip. `pip install` settings apply if `pip download` has none.
SECTIONS = ("global", "install", "download", ":env:")
PORTS = {"http": 80, "https": 443}


def pip_settings() -> dict[str, str]:
    """The configuration of pip, from its files and PIP_ variables."""
    argv = [sys.executable, "-I", "-m", "pip", "--disable-pip-version-check", "config", "list"]
    output = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout
    found: dict[tuple[int, str], str] = {}
    for line in output.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section in SECTIONS:
            found[(SECTIONS.index(section), name)] = str(ast.literal_eval(value))
    return {name: found[(rank, name)] for rank, name in sorted(found)}


def settings(given: dict[str, Any]) -> dict[str, Any]:
    pip = pip_settings()
    own = given["index"]
    no_index = own is None and pip.get("no-index", "").lower() in ("1", "true", "yes", "on")
    index = own or pip.get("index-url") or PYPI
    extra = [] if own or no_index else pip.get("extra-index-url", "").split()
    links = [] if own else pip.get("find-links", "").split()
    folders = [local_folder(link) for link in links if "://" not in link or link.startswith("file:")]
    addresses = [*([] if no_index else [index]), *extra, *(link for link in links if link.startswith("http"))]
    hosts = [host_of(address) for address in addresses]
    if any(host == "pypi.org" for host, _ in hosts):
        hosts.append((PYPI_FILES, 443))
    hosts += [host_of(f"https://{host}") for host in given["hosts"]]
    certificates = pip.get("cert") or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return {
        "index": None if no_index else index,
        "extra": extra,
        "links": [link for link in links if link.startswith("http")],
        "folders": [folder for folder in folders if os.path.isdir(folder)],
        "certificates": certificates if certificates and os.path.exists(certificates) else None,
        "trusted": pip.get("trusted-host", "").split(),
        "hosts": [{"host": host, "port": port, "proxy": proxy_of(host, pip)} for host, port in dict.fromkeys(hosts)],
    }


def local_folder(link: str) -> str:
    return os.path.abspath(os.path.expanduser(urlsplit(link).path if link.startswith("file:") else link))


def host_of(address: str) -> tuple[str, int]:
    parts = urlsplit(address)
    return parts.hostname or "", parts.port or PORTS.get(parts.scheme, 443)


def proxy_of(host: str, pip: dict[str, str]) -> str | None:
    """The proxy through which this machine reaches a host; None for a direct connection."""
    proxies = getproxies()
    proxy = pip.get("proxy") or (None if proxy_bypass(host) else proxies.get("https") or proxies.get("all"))
    if proxy is None:
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


if __name__ == "__main__":
    print(json.dumps(settings(json.load(sys.stdin))))
