"""Tell Ray when the cloud will take this spot machine back: python drain_on_notice.py aws|gcp

Runs beside Ray on every worker machine. The cloud gives notice through its metadata service, AWS two minutes before,
GCP 30 seconds; Ray hears of it as a drain of the node, and a training that runs there writes a checkpoint at its next
step. Needs Python and the `ray` command, nothing of this project.
"""

import argparse
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urljoin

POLL_SECONDS = 5.0
GCP_NOTICE_SECONDS = 30


def read(url: str, headers: dict[str, str], method: str = "GET") -> str | None:
    """Read from a metadata service; None where it has nothing at this address, or does not answer."""
    request = urllib.request.Request(url, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=2.0) as answer:
            return answer.read().decode()
    except (urllib.error.URLError, TimeoutError):
        return None


def aws_notice(service: str) -> int | None:
    """Seconds until AWS stops or terminates this instance; None while it says nothing of that."""
    hours = {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}
    token = read(urljoin(service, "latest/api/token"), hours, "PUT")
    if token is None:
        return None
    notice = read(urljoin(service, "latest/meta-data/spot/instance-action"), {"X-aws-ec2-metadata-token": token})
    if notice is None:
        return None
    end = datetime.fromisoformat(json.loads(notice)["time"])
    return max(0, int((end - datetime.now(UTC)).total_seconds()))


def gcp_notice(service: str) -> int | None:
    """Seconds until GCP stops this instance; None while it says nothing of that."""
    flavor = {"Metadata-Flavor": "Google"}
    taken = read(urljoin(service, "computeMetadata/v1/instance/preempted"), flavor)
    return GCP_NOTICE_SECONDS if taken is not None and taken.strip().upper() == "TRUE" else None


CLOUDS: dict[str, tuple[Callable[[str], int | None], str]] = {
    "aws": (aws_notice, "http://169.254.169.254/"),
    "gcp": (gcp_notice, "http://metadata.google.internal/"),
}


def drain(seconds: int) -> int:
    """Tell Ray that this node goes in so many seconds; return the exit code of its command."""
    import ray

    ray.init(address="auto", log_to_driver=False)
    node = ray.get_runtime_context().get_node_id()
    command = ["ray", "drain-node", "--node-id", node, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    command += ["--reason-message", "the cloud takes this machine back", "--deadline-remaining-seconds", str(seconds)]
    return subprocess.run(command, check=False).returncode


def main() -> int:
    """Wait for the notice, and pass it on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cloud", choices=sorted(CLOUDS))
    parser.add_argument("--service", help="Base address of the metadata service; unset, that of the cloud.")
    options = parser.parse_args()
    look, address = CLOUDS[options.cloud]
    while (seconds := look(options.service or address)) is None:
        time.sleep(POLL_SECONDS)
    print(f"notice: this machine goes in {seconds} s", flush=True)
    return drain(seconds)


if __name__ == "__main__":
    sys.exit(main())
