"""One line per figure, `bench <name> <value> <unit>`, merged into build/bench/results.json: {name: {value, unit, runs}}."""

import json
import statistics
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
RESULTS = TOP / "build/bench/results.json"


def record(name, unit, runs):
    """Prints the median of the runs and keeps all of them."""
    runs = [float(run) for run in runs]
    value = statistics.median(runs)
    print(f"bench {name} {value:.6g} {unit}", flush=True)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept[name] = {"value": value, "unit": unit, "runs": runs}
    RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    return value


def record_lines(outputs):
    """Takes what a bench program printed in each of its runs and records every `bench` line of it."""
    figures = {}
    for output in outputs:
        for line in output.splitlines():
            words = line.split()
            if len(words) == 4 and words[0] == "bench":
                figures.setdefault((words[1], words[3]), []).append(float(words[2]))
    for (name, unit), runs in figures.items():
        record(name, unit, runs)
