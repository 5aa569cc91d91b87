"""Checks a timeline (docs/tracing.md, rules 7 to 13): that it is JSON, and what must hold in it.

    python3 check_trace.py FILE [NAME=COUNT...]

Counts are of events by name, at least COUNT of each; "collections" counts those of all kinds.  Prints
what is wrong, or one line."""
import collections
import decimal
import json
import statistics
import sys

PHASES = ["stop", "prepare", "make young", "remembered set", "roots", "mark", "liveness", "compact",
          "settle", "close", "policy", "verify", "start"]
KINDS = ["minor", "full", "compact"]
MANY = 40  # collections, enough for a median that no preemption moves


def check(events):
    assert isinstance(events, list) and events, "not an array with something in it"
    whole = []
    for event in events:
        for key in ("name", "cat", "ph", "ts", "pid", "tid"):
            assert key in event, f"no {key} in {event}"
        assert event["ph"] in "XCiM" and event["ts"] >= 0, event
        assert event["pid"] == events[0]["pid"], f"another process in {event}"
        if event["ph"] == "X":
            assert event["dur"] >= 0, event
            whole.append(event)
        if event["ph"] == "i":
            assert event["s"] in "tpg" and all(v > 0 for v in event["args"].values()), event
        if event["ph"] == "C":
            assert all(isinstance(v, int) for v in event["args"].values()), event
    assert events[0]["name"] == "process_name", "the first event is not the process's name"
    named = {e["tid"] for e in events if e["name"] == "thread_name"}
    assert all(e["tid"] in named for e in whole), "a thread that collects has no name"
    numbers = check_collections(whole)
    return numbers


def check_collections(whole):
    of = collections.defaultdict(list)
    runs = [e for e in whole if e["cat"] == "gc"]
    for event in whole:
        assert event["name"] in (KINDS if event["cat"] == "gc" else PHASES), event
        if event["cat"] != "gc":
            of[event["args"]["collection"]].append(event)
    last, end, shares = 0, 0, []
    for run in runs:
        number, begin = run["args"]["number"], run["ts"]
        assert number > last, f"collection {number} after {last}"
        assert begin >= end, f"collection {number} begins before {last} ends"
        last, end = number, begin + run["dur"]
        assert run["args"]["reason"], run
        parts = of.pop(number)
        names = [p["name"] for p in parts]
        assert names[0] == "stop" and names[-1] == "start", names
        once = [n for n in names if n != "verify"]
        assert sorted(once, key=PHASES.index) == once and len(set(once)) == len(once), names
        searches = not run["args"]["promoted_all"]
        assert searches or run["name"] == "minor", run
        assert {"prepare", "mark", "liveness", "settle", "close", "policy"} <= set(names), names
        assert ("roots" in names) == searches, names
        assert ("remembered set" in names) == (searches and run["name"] == "minor"), names
        assert ("make young" in names) == (run["name"] != "minor"), names
        assert ("compact" in names) >= run["args"]["compacted"], names
        assert parts[0]["ts"] >= begin, f"the first phase of {number} begins before it"
        at = parts[0]["ts"]
        for part in parts:
            assert part["tid"] == run["tid"], part
            assert part["ts"] == at, f"{part} begins where none ends, at {at}"
            at = part["ts"] + part["dur"]
        assert at <= end, f"phases of {number} end after it"
        shares.append((at - parts[0]["ts"]) / run["dur"] if run["dur"] > 0 else 1)
    assert not of, f"phases without a collection: {of}"
    # Before the first phase and after the last the thread may be preempted, but not half the times.
    if len(shares) >= MANY:
        share = statistics.median(shares)
        assert share >= 0.5, f"phases are {share:.2f} of a collection, in the median"
    return runs


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        events = json.load(file, parse_float=decimal.Decimal)  # as exact as they are written
    runs = check(events)
    counts = collections.Counter(e["name"] for e in events)
    counts["collections"] = len(runs)
    for wish in sys.argv[2:]:
        name, least = wish.rsplit("=", 1)
        assert counts[name] >= int(least), f"{counts[name]} events {name}, expected {least}"
    print(f"{len(events)} events, {len(runs)} collections")


main()
