"""Figures of routing: decisions timed alone (bench_routing), and policies compared in the simulator.

The simulated figures are the same on every machine: only their seed changes between runs."""

import json
import subprocess
from pathlib import Path

import results

TOP = Path(__file__).resolve().parents[2]
SEEDS = (1, 2, 3)


def simulate(build, scenario, policies, *options):
    command = [build / "bin/darkbloom-swarm", "simulate", TOP / f"tests/scenarios/{scenario}.toml", "--policies", policies, "--json", *options]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return {run["policy"]: run for run in json.loads(result.stdout)["policies"]}


def compare(build):
    """At 85 % load: the chapter's rule as it is written, ours, and an oracle."""
    p99, goodput, oracle = [], [], []
    for seed in SEEDS:
        runs = simulate(build, "steady", "chapter,ours,oracle", "--seed", str(seed))
        p99.append(runs["ours"]["ttft_p99"] / runs["chapter"]["ttft_p99"])
        goodput.append(runs["ours"]["good"] / max(1, runs["chapter"]["good"]))
        oracle.append(runs["ours"]["good"] / runs["oracle"]["good"])
    results.record("sim_p99_ttft_ratio", "ratio", p99)
    results.record("sim_goodput_ratio", "ratio", goodput)
    results.record("sim_goodput_vs_oracle", "ratio", oracle)


def hedging(build, scenario, name):
    """p99 of the time to the first token with hedging over that without, the extra tokens of it, and the ratio that a fleet without
    a sick machine would have: hedging cannot pass that."""
    ratios, extra, least = [], [], []
    for seed in SEEDS:
        hedged = simulate(build, scenario, "ours", "--seed", str(seed))["ours"]
        plain = simulate(build, scenario, "ours", "--seed", str(seed), "--no-hedge")["ours"]
        well = simulate(build, scenario, "ours", "--seed", str(seed), "--no-hedge", "--all-well")["ours"]
        ratios.append(hedged["ttft_p99"] / plain["ttft_p99"])
        least.append(well["ttft_p99"] / plain["ttft_p99"])
        extra.append(100 * hedged["extra_share"])
    results.record(f"{name}_p99_ratio", "ratio", ratios)
    results.record(f"{name}_extra_tokens_pct", "%", extra)
    results.record(f"{name}_least_p99_ratio", "ratio", least)


def mass_loss(build):
    """A tenth of 20,000 machines lost at once: requests without content or an honest error by their deadline, and the time until
    as many are answered well as before."""
    run = simulate(build, "mass-loss", "ours")["ours"]
    results.record("mass_loss_stuck", "requests", [run["late"] + run["open"] + (not run["finished"])])
    results.record("mass_loss_recovery_s", "s", [run["recovery_s"]])


def selection(build):
    """What a decision costs above that of a look at every machine, by the same rule, gates and costs; and above the cheapest machine of
    all, which the rule does not always take (of near-ties it takes the least busy)."""
    over = {"over_scan_share": [], "over_cheapest_share": [], "over_ties_share": []}
    for seed in SEEDS:
        run = simulate(build, "steady", "ours", "--compare-scan", "--seed", str(seed))["ours"]
        for key, values in over.items():
            values.append(100 * run[key])
    results.record("selection_cost_over_scan_pct", "%", over["over_scan_share"])
    results.record("selection_cost_over_cheapest_pct", "%", over["over_cheapest_share"])
    results.record("selection_cost_beyond_ties_pct", "%", over["over_ties_share"])


def main(build, runs):
    outputs = [subprocess.run([build / "bench/bench_routing"], capture_output=True, text=True, check=True).stdout for _ in range(runs)]
    results.record_lines(outputs)
    compare(build)
    # 5 % of the machines are sick, and soon others (wandering.toml: decision 0062); the same ones all the time, which breakers and
    # costs learn to avoid (sick.toml); at 30 % load and short prompts, with silence alone (stalls.toml).
    hedging(build, "wandering", "hedge")
    hedging(build, "sick", "hedge_lasting")
    hedging(build, "stalls", "hedge_stalls")
    mass_loss(build)
    selection(build)
