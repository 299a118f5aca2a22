"""python -m perf [NAME ...] [--quick] [--json OUT]: runs benchmarks, each in a process of its own."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

NAMES = ("training", "prototypes", "prediction", "input", "startup", "memory", "devices", "instances", "cluster")


def main() -> int:
    """-> the exit code: 1 if any benchmark failed."""
    parser = argparse.ArgumentParser(prog="python -m perf", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; all of them if none is named")
    parser.add_argument("--quick", action="store_true", help="smallest shapes, few repeats: do they run?")
    parser.add_argument("--json", type=Path, help="also write all tables to this file")
    flags = parser.parse_args()
    if unknown := sorted(set(flags.names) - set(NAMES)):
        parser.error(f"there is no benchmark {', '.join(unknown)}; expected {', '.join(NAMES)}")
    records, failed = {}, False
    with tempfile.TemporaryDirectory() as folder:
        for name in flags.names or NAMES:
            print(f"## {name}\n", flush=True)
            path = Path(folder) / f"{name}.json"
            quick = ["--quick"] if flags.quick else []
            process = subprocess.run([sys.executable, "-m", f"perf.{name}", "--json", str(path), *quick])
            if process.returncode:
                failed = True
            else:
                records[name] = json.loads(path.read_text())
    if flags.json:
        flags.json.write_text(json.dumps(records, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
