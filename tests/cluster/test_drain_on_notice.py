"""What the metadata services of the clouds say, as documented by them, and what a node makes of it.

That Ray hears of it and a training saves itself is in tests/test_several_hosts.py.
"""

import importlib.util
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "cluster" / "drain_on_notice.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("drain_on_notice", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Service(BaseHTTPRequestHandler):
    """A metadata service: AWS answers only who has asked for a token first, GCP only who knows its header."""

    notice: dict[str, str]

    def do_PUT(self) -> None:
        given = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        self._answer("the token" if self.path == "/latest/api/token" and given else None)

    def do_GET(self) -> None:
        allowed = "the token" in self.headers.values() or self.headers.get("Metadata-Flavor") == "Google"
        self._answer(self.notice.get(self.path) if allowed else None)

    def _answer(self, text: str | None) -> None:
        self.send_response(404 if text is None else 200)
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[tuple[str, dict[str, str]]]:
    """Address of a metadata service, and what it answers, by path."""
    notice: dict[str, str] = {}
    handler = type("Handler", (Service,), {"notice": notice})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", notice
        server.shutdown()


def test_aws(script: ModuleType, service: tuple[str, dict[str, str]]) -> None:
    address, notice = service
    assert script.aws_notice(address) is None
    end = datetime.now(UTC) + timedelta(seconds=110)
    notice["/latest/meta-data/spot/instance-action"] = (
        f'{{"action": "terminate", "time": "{end.strftime("%Y-%m-%dT%H:%M:%SZ")}"}}'
    )
    assert 105 <= script.aws_notice(address) <= 110


def test_gcp(script: ModuleType, service: tuple[str, dict[str, str]]) -> None:
    address, notice = service
    path = "/computeMetadata/v1/instance/preempted"
    for said, seconds in ((None, None), ("FALSE", None), ("TRUE", 30)):
        if said is not None:
            notice[path] = said
        assert script.gcp_notice(address) == seconds


def test_no_service_is_no_notice(script: ModuleType) -> None:
    for look, _ in script.CLOUDS.values():
        assert look("http://127.0.0.1:9/") is None


def test_another_cloud_is_refused() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "azure"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "invalid choice: 'azure'" in done.stderr and "aws" in done.stderr and "gcp" in done.stderr
