"""What the records mean: the goals, a table for people."""

KIB, MIB = 1 << 10, 1 << 20


def size_name(size):
    return f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"


def time_name(microseconds):
    return f"{microseconds / 1000:.3g} ms" if microseconds >= 1000 else f"{microseconds:.3g} us"


def wanted(ratio):
    """The goals a ratio has to meet: (least value, words)."""
    size, peer = ratio["bytes"], ratio["peer"]
    if size == 25 * MIB and ratio["ranks"] == 2 and ratio["mode"] == "resident":
        return (10, "10x") if peer == "Gloo" else (4, "4x")
    if size >= 64 * KIB:
        return (1, "never slower")
    if size == 4 * KIB and ratio["ranks"] == 2:
        return (50, "50x") if peer == "Gloo" else (0.5, "within 2x")
    return None


def goals(records):
    """Whether each goal holds, losses included."""
    result = []
    for record in records:
        if record["type"] == "ratio" and wanted(record):
            least, words = wanted(record)
            what = f"{size_name(record['bytes'])}, {record['ranks']} ranks, {record['mode']}: {words} against {record['peer']}"
            result.append({"type": "goal", "goal": what, "least": least, "value": record["of_medians"],
                           "holds": record["of_medians"] >= least})
        if record["type"] == "link" and record["side"] == "libddp":
            what = f"{record['link_mbit_s']} Mbit/s between two hosts, {record['ranks'] // 2} ranks each, {record['mode']}: 95 % of plain TCP"
            result.append({"type": "goal", "goal": what, "least": 0.95, "value": record["share_of_tcp"],
                           "holds": record["share_of_tcp"] >= 0.95})
    return result


def local_table(records):
    """Rows of the shared-memory comparison, header first: one a number of ranks and a size."""
    measured = {(r["ranks"], r["bytes"], r["side"], r["mode"]): r for r in records if r["type"] == "measurement"}
    ratio = {(r["ranks"], r["bytes"], r["peer"], r["mode"]): r for r in records if r["type"] == "ratio"}
    peers = sorted({key[2] for key in ratio})
    modes = ("resident", "ordinary")
    rows = [["ranks", "size", *modes, *peers, *(f"{p} / {m}" for p in peers for m in modes)]]
    for ranks, size in sorted({key[:2] for key in measured}):
        def cell(side, mode):
            record = measured.get((ranks, size, side, mode))
            return time_name(record["median_us"]) if record else "-"
        row = [str(ranks), size_name(size), *(cell("libddp", m) for m in modes), *(cell(p, "ordinary") for p in peers)]
        row += [f"{ratio[ranks, size, p, m]['of_medians']:.3g}x" for p in peers for m in modes]
        rows.append(row)
    return rows


def link_table(records):
    rows = [["link", "who", "memory", "ranks", "time", "moved each way", "of plain TCP"]]
    for r in records:
        if r["type"] == "link":
            rows.append([f"{r['link_mbit_s']} Mbit/s", r["side"], r["mode"] if r["side"] == "libddp" else "-", str(r["ranks"]), time_name(r["median_us"]),
                         f"{r['moved_mbit_s']:.0f} Mbit/s", f"{100 * r['share_of_tcp']:.1f} %"])
    return rows


def aligned(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows)


def markdown(rows):
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def verdict(goal):
    return f"{'holds ' if goal['holds'] else 'MISSED'}  {goal['value']:.3g} (goal {goal['least']:g})  {goal['goal']}"


def text(records, table):
    """table: aligned or markdown."""
    parts = []
    if any(r["type"] == "measurement" for r in records):
        parts += ["All-reduce of fp32 in place, median of one call; the ratios say how many times as long the peer takes:", table(local_table(records))]
    if any(r["type"] == "link" for r in records):
        parts += ["All-reduce of 25 MiB between two hosts (network namespaces, veth and tc tbf), beside plain TCP:", table(link_table(records))]
    return "\n\n".join(parts)
