"""onnxruntime's own tests of its Python API, run against `cnnrt.compat.onnxruntime`.

    python bench/onnxruntime_tests.py path/to/onnxruntime [--theirs]

Takes a checkout of onnxruntime's sources, of which nothing is kept here. Prints a table of the
tests that pass, and the reason of each that does not. Fails if a test fails without a reason, or
passes in spite of one. `--theirs` runs them by the onnxruntime that is installed, for comparison.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from pathlib import Path

FILES = {
    "onnxruntime_test_python.py": "sessions, options, values",
    "onnxruntime_test_python_iobinding.py": "bindings",
    "onnxruntime_test_python_backend.py": "ONNX's backend interface",
    "onnxruntime_test_python_global_threadpool.py": "threads of the process",
    "onnxruntime_test_python_nested_control_flow_op.py": "control flow",
    "onnxruntime_test_python_ort_parallel.py": "runs in several threads",
    "onnxruntime_test_scatternd.py": "ScatterND",
}
"""The files that concern inference on the CPU, in the folder `onnxruntime/test/python`. Others are
about devices, training, operators of ai.onnx.ml, sparse tensors, and tools."""

STRINGS = "tensors of texts"
SPARSE = "sparse tensors"
ADAPTERS = "LoRA adapters of language models"
LIBRARIES = "a shared library with operators or a provider, which a build of onnxruntime makes"
CLASSICAL = "operators of ai.onnx.ml, which are no networks'"
OWN = "asks that an array is a view of other memory; cnnrt writes into the array itself"
NARROW = "inputs of bfloat16 and float8"
NAMES = "the name of a tensor has line breaks, which cnnrt refuses in any file"

REASONS = {
    "test_string_input1": STRINGS,
    "test_string_input2": STRINGS,
    "test_string_list_as_input": STRINGS,
    "test_input_bytes": STRINGS,
    "test_input_object": STRINGS,
    "test_input_void": STRINGS,
    "test_sparse_tensor_coo_format": SPARSE,
    "test_sparse_tensor_csr_format": SPARSE,
    "test_adater_export_read": ADAPTERS,
    "test_run_with_adapter": ADAPTERS,
    "test_register_custom_ops_library": LIBRARIES,
    "test_register_custom_e_ps_library": LIBRARIES,
    "test_tree_ensemble_logistic": CLASSICAL,
    "test_run_session_owned_output_is_zero_copy": OWN,
    "test_bind_onnx_types_not_supported_by_numpy": NARROW,
    "test_nested_optional_greater_or_equal": NAMES,
}
"""What each test that does not pass needs, and cnnrt does not have."""

PASSED, SKIPPED, FAILED = "passed", "skipped", "failed"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkout", type=Path, help="folder of onnxruntime's sources")
    parser.add_argument("--theirs", action="store_true", help="run them by onnxruntime itself")
    options = parser.parse_args()
    folder = options.checkout / "onnxruntime" / "test" / "python"
    if not folder.is_dir():
        parser.error(f"{folder}: no such folder; expected a checkout of onnxruntime")
    results = {name: run(folder / name, theirs=options.theirs) for name in FILES}
    version = (options.checkout / "VERSION_NUMBER").read_text().strip()
    print(f"onnxruntime {version}:\n")
    print(table(results))
    wrong = [] if options.theirs else surprises(results)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


def run(file: Path, *, theirs: bool) -> dict[str, str]:
    """The outcome of each test of a file; a test fails if one of its subtests does."""
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.xml"
        runner = [] if theirs else ["-m", "cnnrt.compat"]
        # In a folder of their own: some tests write files to the current one.
        (Path(place) / "testdata").symlink_to(file.parent.parent.resolve() / "testdata")
        subprocess.run(
            [sys.executable, *runner, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir"]
            + [place, f"--junitxml={report}", str(file.resolve())],
            cwd=place,
            capture_output=True,
            check=False,
            timeout=600,
        )
        cases = ET.parse(report).getroot().iter("testcase")
        found: dict[str, list[str]] = defaultdict(list)
        for case in cases:
            kinds = {child.tag for child in case}
            bad = FAILED if kinds & {"failure", "error"} else SKIPPED
            name = case.get("name", "").partition("[")[0].partition(" ")[0]
            found[name].append(bad if kinds & {"failure", "error", "skipped"} else PASSED)
    worst = (FAILED, PASSED, SKIPPED)
    return {name: next(k for k in worst if k in kinds) for name, kinds in found.items()}


def table(results: dict[str, dict[str, str]]) -> str:
    """Counts by file, then the tests that do not pass, by reason."""
    lines = ["| file | about | tests | pass | skipped | do not pass |", "|---|---|---|---|---|---|"]
    total: Counter[str] = Counter()
    for file, outcomes in results.items():
        counts = Counter(outcomes.values())
        total += counts
        lines.append(row(f"`{file}`", FILES[file], counts))
    lines += [row("all", "", total), "", "| why | tests |", "|---|---|"]
    failed = [n for outcomes in results.values() for n, kind in outcomes.items() if kind == FAILED]
    by_reason: dict[str, list[str]] = defaultdict(list)
    for name in failed:
        by_reason[REASONS.get(name, "unknown")].append(f"`{name}`")
    lines += [f"| {reason} | {', '.join(names)} |" for reason, names in by_reason.items()]
    return "\n".join(lines)


def row(file: str, about: str, counts: Counter[str]) -> str:
    numbers = " | ".join(str(counts[kind]) for kind in (PASSED, SKIPPED, FAILED))
    return f"| {file} | {about} | {counts.total()} | {numbers} |"


def surprises(results: dict[str, dict[str, str]]) -> list[str]:
    """Tests whose outcome is not that of `REASONS`."""
    lines = []
    for file, outcomes in results.items():
        if not outcomes:
            lines.append(f"{file}: no tests ran")
        for name, kind in outcomes.items():
            if kind == FAILED and name not in REASONS:
                lines.append(f"{file}: {name} fails without a reason")
            if kind == PASSED and name in REASONS:
                lines.append(f"{file}: {name} passes; take its reason away")
    return lines


if __name__ == "__main__":
    sys.exit(main())
