"""Requests that schemathesis makes from an OpenAPI document, for a bounded time.

    pip install schemathesis
    python tests/fuzz/openapi.py --seconds 60
    python tests/fuzz/openapi.py --document open_inference_rest.yaml

Without `--document` it is the server's own `/openapi.json`. The protocol's is
`specification/protocol/open_inference_rest.yaml` of
https://github.com/open-inference/open-inference-protocol. The exit status is that of schemathesis:
0 if no answer has another form or status than the document says, and none is an error of the
server. Models are not unloaded: then a probe's right answer would be 503.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from test_serve import LENET, LITE0, Server

UNKNOWABLE = "positive_data_acceptance"
"""A document cannot say which models are there, and which shapes they take."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--document", help="a file; the default is the server's own")
    parser.add_argument("--schemathesis", default=shutil.which("schemathesis"), metavar="PROGRAM")
    options = parser.parse_args()
    if options.schemathesis is None:
        parser.error("schemathesis is not there: pip install schemathesis")
    server = Server(str(LENET), str(LITE0), "--threads", "1").wait_ready()
    at = f"http://127.0.0.1:{server.port}"
    document = [options.document, "--url", at] if options.document else [f"{at}/openapi.json"]
    try:
        return subprocess.run(
            [
                options.schemathesis,
                *(
                    "run",
                    *document,
                    "--exclude-path-regex",
                    "unload$",
                    "--continue-on-failure",
                    "--warnings",
                    "off",
                ),
                *("--max-time", str(options.seconds), "--exclude-checks", UNKNOWABLE),
            ],
            check=False,
        ).returncode
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
