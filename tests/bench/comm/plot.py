"""Draws the JSON lines of bench-comm: plot.py RESULTS.jsonl PICTURE.png"""
import json
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

STYLES = {("libddp", "resident"): ("libddp, resident", "tab:blue", "-", "o"), ("libddp", "ordinary"): ("libddp, ordinary memory", "tab:cyan", "-", "s"),
          ("Open MPI", "ordinary"): ("Open MPI", "tab:orange", "--", "^"), ("Gloo", "ordinary"): ("Gloo", "tab:red", "--", "v")}


def size_label(size):
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def draw(axes, ranks, records):
    sizes = sorted({r["bytes"] for r in records})
    for (side, mode), (label, color, line, marker) in STYLES.items():
        points = sorted((r["bytes"], r["min_us"], r["median_us"], r["p90_us"]) for r in records if r["side"] == side and r["mode"] == mode)
        if not points:
            continue
        x, low, median, high = zip(*points)
        axes.plot(x, median, line, marker=marker, color=color, label=label, markersize=5)
        axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [size_label(s) for s in sizes], rotation=45, ha="right")
    axes.set_title(f"{ranks} ranks on one host")
    axes.set_xlabel("bytes of fp32 that each rank gives")
    axes.set_ylabel("time of one all-reduce, microseconds")
    axes.grid(True, which="major", alpha=0.4)
    axes.legend()


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        records = [r for r in map(json.loads, file) if r["type"] == "measurement"]
    all_ranks = sorted({r["ranks"] for r in records})
    if not all_ranks:
        return
    figure, axes = plt.subplots(1, len(all_ranks), figsize=(6.5 * len(all_ranks), 5), sharey=True, squeeze=False)
    for column, ranks in enumerate(all_ranks):
        draw(axes[0][column], ranks, [r for r in records if r["ranks"] == ranks])
    figure.suptitle("All-reduce within a host: median, band from minimum to 90th percentile (lower is better)")
    figure.tight_layout()
    figure.savefig(sys.argv[2], dpi=130)


main()
