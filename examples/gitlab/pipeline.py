# Turn a plan into a GitLab child pipeline: a job for each stage that has something to
# build, and one for the runtime. JSON is valid YAML, so this needs only Python:
#
#     nox -s build-stages-plan -- --json | python pipeline.py > pipeline.yml

import json
import shlex
import sys

FORMAT = 1


def job(entry: dict, requires: list[str], words: str = "") -> dict[str, object]:
    """Return the job of a session, which runs after the required jobs."""
    setup = [entry["setup"]] if entry["setup"] else []
    found = {
        "extends": ".build-stages",
        "needs": requires,
        "variables": entry["variables"],
        "script": [*setup, f"nox -s {shlex.quote(entry['session'])}{words}"],
    }
    if entry["container"]:
        found["image"] = entry["container"]
    if entry["runs-on"]:
        found["tags"] = entry["runs-on"]
    return found


def shards(stage: dict, requires: list[str]) -> dict[str, object]:
    """Return the jobs that compile the shards of a stage; one that fails costs time."""
    count = stage.get("shards", 1)
    artifacts = {"paths": [".compiled/"], "when": "always"}
    return {
        f"{stage['session']} {it}/{count}": {
            **job(stage, requires, f" -- --shard {it}/{count}"),
            "artifacts": artifacts,
            "allow_failure": True,
        }
        for it in range(1, count + 1)
        if count > 1
    }


def pipeline(plan: dict) -> dict[str, object]:
    """Return all jobs; a stage has none if all its wheels are in the store."""
    if plan["format"] != FORMAT or plan["locks"] != "current":
        raise SystemExit(f"format {plan['format']}, locks {plan['locks']}")
    stages = {
        stage["session"]: stage
        for stage in plan["stages"]
        if any(output["state"] == "build" for output in stage["outputs"])
    }
    sessions = stages | {it["session"]: it for it in plan["final"]}
    jobs = {
        session: job(entry, [it for it in entry["requires"] if it in stages])
        for session, entry in sessions.items()
    }
    for session, stage in stages.items():
        compiled = shards(stage, [it for it in stage["requires"] if it in stages])
        jobs[session]["needs"] += compiled
        jobs |= compiled
    for final in plan["final"]:
        jobs[final["session"]]["artifacts"] = {"paths": ["wheelhouse/"]}
    return {"include": [{"local": ".build-stages.yml"}], **jobs}


json.dump(pipeline(json.load(sys.stdin)), sys.stdout, indent=2)
