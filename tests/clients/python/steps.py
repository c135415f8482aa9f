"""Prints, as JSON, the variables and the commands that a CI's file has for one job: steps.py FILE."""

import json
import sys

import yaml

with open(sys.argv[1], encoding="utf-8") as file:
    said = yaml.safe_load(file)
if "jobs" in said:
    (job,) = said["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step and "if" not in step]
    variables = job["env"]
else:
    job = said["tests"]
    commands = job["before_script"] + job["script"]
    variables = job["variables"]
print(json.dumps({"variables": variables, "commands": commands}))
