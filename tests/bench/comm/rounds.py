"""Interleaved measurements: every round runs each side once, in an order that rotates, so that a swing of the machine hits all alike."""
import statistics
from contextlib import ExitStack

KIB, MIB = 1 << 10, 1 << 20
SIZES = [4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB, 25 * MIB, 100 * MIB]
BATCH_SECONDS = 0.02  # what one side takes of a round, where one call is shorter
MAX_ITERATIONS = 5000


def rounds_of(size):
    return 41 if size <= MIB else 25 if size <= 25 * MIB else 11


def iterations_for(side, mode, size):
    """The first call verifies and allocates; the second tells about how long one takes."""
    side.measure(mode, size, 1)
    seconds = side.measure(mode, size, 3)
    return max(1, min(MAX_ITERATIONS, int(BATCH_SECONDS / seconds)))


def interleave(contestants, size, rounds):
    """contestants: (side, mode). Seconds of one call, by contestant and round."""
    iterations = [iterations_for(side, mode, size) for side, mode in contestants]
    samples = [[] for _ in contestants]
    for r in range(rounds):
        for k in range(len(contestants)):
            i = (k + r) % len(contestants)
            side, mode = contestants[i]
            samples[i].append(side.measure(mode, size, iterations[i]))
    return samples


def p90(values):
    return sorted(values)[min(len(values) - 1, int(0.9 * len(values)))]


def measurement(side, mode, ranks, size, values):
    return {"type": "measurement", "side": side, "mode": mode, "ranks": ranks, "bytes": size, "rounds": len(values),
            "median_us": round(statistics.median(values) * 1e6, 3), "min_us": round(min(values) * 1e6, 3),
            "p90_us": round(p90(values) * 1e6, 3)}


def ratios(ranks, size, contestants, samples):
    """How many times as long as ours every peer takes: by medians, and as the median over the rounds of the ratio in that round."""
    result = []
    for (ours, mode), mine in zip(contestants, samples):
        if ours.name != "libddp":
            continue
        for (peer, _), theirs in zip(contestants, samples):
            if peer.name == "libddp":
                continue
            by_round = statistics.median(t / m for t, m in zip(theirs, mine))
            result.append({"type": "ratio", "peer": peer.name, "mode": mode, "ranks": ranks, "bytes": size,
                           "of_medians": round(statistics.median(theirs) / statistics.median(mine), 3),
                           "median_of_rounds": round(by_round, 3)})
    return result


def compare(start_functions, build, ranks, sizes, scale, progress):
    """Yields the records of all sizes at one number of ranks."""
    with ExitStack() as stack:
        sides = [stack.enter_context(start(build, ranks)) for start in start_functions]
        contestants = [(side, mode) for side in sides for mode in side.modes]
        for size in sizes:
            rounds = max(3, int(rounds_of(size) * scale))
            progress(f"{ranks} ranks, {size} bytes, {rounds} rounds")
            samples = interleave(contestants, size, rounds)
            for (side, mode), values in zip(contestants, samples):
                yield measurement(side.name, mode, ranks, size, values)
            yield from ratios(ranks, size, contestants, samples)
