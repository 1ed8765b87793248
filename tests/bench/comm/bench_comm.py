"""make bench-comm: all-reduce of the host communicator beside Gloo and Open MPI, interleaved in one run, and between two hosts.

Writes JSON lines, a table and a plot. `bench_comm.py --help` shows how to measure less."""
import argparse
import json
import os
import platform
import subprocess
import sys

import report
from link import RATES, measure_link
from namespaces import enter_own
from rounds import SIZES, compare
from sides import HERE, Build, SideError, available_sides


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build/release", help="build folder (default: %(default)s)")
    parser.add_argument("--out", default="build/bench", help="folder for the results (default: %(default)s)")
    parser.add_argument("--python", default=os.environ.get("DDP_BENCH_PYTHON"), help="Python with torch and matplotlib (default: the build's)")
    parser.add_argument("--ranks", type=int, nargs="*", default=[2, 4], help="numbers of ranks on one host (default: 2 4)")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="bytes (default: 4 KiB to 100 MiB)")
    parser.add_argument("--rates", type=int, nargs="*", default=RATES, help="bits a second between two hosts (default: 200e6 1e9)")
    parser.add_argument("--scale", type=float, default=1, help="times the usual number of rounds")
    return parser.parse_args()


def first_line(argv):
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.splitlines()[0].strip()
    except (OSError, IndexError):
        return "?"


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.machine())


def setting(build, notes):
    torch = first_line([build.python, "-c", "import torch; print(torch.__version__)"]) if build.python else "none"
    return {"type": "setting", "processor": processor(), "cores": len(os.sched_getaffinity(0)), "kernel": platform.release(),
            "build": build.build_type, "torch": torch, "mpi": first_line([build.mpirun, "--version"]) if build.mpirun else "none",
            "commit": first_line(["git", "-C", HERE, "describe", "--always", "--dirty"]), "notes": notes}


def write(out, records):
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "bench-comm.jsonl"), "w", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)
    verdicts = [report.verdict(r) for r in records if r["type"] == "goal"]
    with open(os.path.join(out, "bench-comm.md"), "w", encoding="utf-8") as file:
        known = ", ".join(f"{k} {v}" for k, v in records[0].items() if k not in ("type", "notes"))
        notes = "".join(f"\n\nNote: {note}" for note in records[0]["notes"])
        file.write(f"# make bench-comm\n\n{known}{notes}\n\n{report.text(records, report.markdown)}\n\nGoals:\n\n```\n"
                   + "\n".join(verdicts) + "\n```\n\n![time of one all-reduce](bench-comm.png)\n")


def plot(build, out):
    if not build.python:
        return
    picture = os.path.join(out, "bench-comm.png")
    done = subprocess.run([build.python, os.path.join(HERE, "plot.py"), os.path.join(out, "bench-comm.jsonl"), picture], check=False)
    print(f"plot: {picture}" if done.returncode == 0 else "no plot: this Python has no matplotlib")


def main():
    options = arguments()
    namespace_note = enter_own()
    build = Build(options.build, options.python)
    starts, notes = available_sides(build)
    notes += [namespace_note] if namespace_note else []
    for note in notes:
        print("note:", note)
    progress = lambda text: print("...", text, flush=True)
    records = [setting(build, notes)]
    for ranks in options.ranks:
        records += compare(starts, build, ranks, options.sizes, options.scale, progress)
    for rate in options.rates if not namespace_note else []:
        records += measure_link(build, rate, options.scale, progress)
    verdicts = report.goals(records)
    records += verdicts
    write(options.out, records)
    print(report.text(records, report.aligned))
    print("\nGoals:", *map(report.verdict, verdicts), sep="\n")
    print(f"\nresults: {options.out}/bench-comm.jsonl, bench-comm.md")
    plot(build, options.out)


if __name__ == "__main__":
    try:
        main()
    except SideError as error:
        sys.exit(f"bench-comm: {error}")
